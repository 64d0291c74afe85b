"""Watches the variants, and ramps or rolls back: what Routers report in, the shares that challengers may have out."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments.feedback import Feedback, Noted
from deployments.question import Key
from deployments.scores import Disagreement, RouterReport, total
from models.errors import ModelNotFound
from models.policy import ModelPolicy, RoutingPolicy
from models.rollout import BEFORE_ANY_EVENT, Event, History, Standing, next_share, standings
from models.store import Store
from models.variant_statistics import VariantStatistics
from models.verdict import Stratum, Verdict, judge

logger = logging.getLogger("ray.serve")

FORGOTTEN_S = 30.0
"""A Router that has reported nothing for so long is gone; what it saw still counts."""

GRACE_S = 5.0
"""A version that no event names was set by hand, or by a command that is not done yet."""

TRIPS = 2
"""A challenger whose breaker opened, and opened again when it was tried once more, is stopped; one that answered
nothing at all when it opened the first time."""


@dataclass(frozen=True, slots=True)
class Directive:
    """What the Routers obey: the shares of challengers and shadows, by model and version."""

    shares: Mapping[str, Mapping[int, float]]


class RefereeHandle(Protocol):
    """The referee, as a Router sees it."""

    async def report(self, report: RouterReport) -> Directive:
        """Tell it what was seen, and be told what to do. Raises a TiltyardError."""

    async def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands. Raises a TiltyardError."""

    async def feedback(self, labels: Sequence[tuple[str, str]]) -> list[Noted]:
        """Tell it what the classes of requests, by id, really were. Raises a TiltyardError."""


@dataclass(slots=True)
class Trial:
    """One version on trial: the steps that it has behind it, and the sums at the beginning of this one."""

    champion: int
    standing: Standing
    began: float
    champion_before: VariantStatistics
    version_before: VariantStatistics
    strata: list[Stratum] = field(default_factory=list)
    verdict: Verdict | None = None


class Referee:
    """Sums what all Routers saw, judges, and writes each decision into the model's history before it counts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._policy = RoutingPolicy()
        self._configured = 0.0
        self._reports: dict[str, tuple[float, RouterReport]] = {}
        self._gone: dict[Key, VariantStatistics] = {}
        self._feedback = Feedback()
        self._trials: dict[Key, Trial] = {}
        self._histories: dict[str, tuple[tuple[int, int], list[Event]]] = {}

    def report(self, report: RouterReport) -> Directive:
        """Take in what a Router saw since it started, and tell it what to do."""
        self._reports[report.router] = time.monotonic(), report
        if report.configured > self._configured:
            self._policy, self._configured = report.policy, report.configured
        self._feedback.remember(report.predictions)
        return Directive({name: self._shares(name, policy) for name, policy in self._policy.models.items()})

    def feedback(self, labels: Sequence[tuple[str, str]]) -> list[Noted]:
        """Note what the classes of requests, by id, really were."""
        return [self._feedback.note(request_id, label) for request_id, label in labels]

    def judge(self) -> None:
        """Look at every version on trial, and decide. Called about once a second."""
        self._forget()
        for model, policy in self._policy.models.items():
            events = self._events(model)
            for version, standing in standings(events, policy).items():
                if standing.stopped_because is None and standing.share > 0:
                    self._judge(model, version, policy, standing)
        live = {(model, version) for model, policy in self._policy.models.items() for version in policy.versions}
        self._trials = {key: trial for key, trial in self._trials.items() if key in live}

    def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands, as JSON. Raises ModelNotFound."""
        if model not in self._policy.models:
            there = ", ".join(self._policy.models) or "none yet"
            raise ModelNotFound(f"no rollout of model {model!r} is watched; there are: {there}")
        policy = self._policy.models[model]
        events = self._events(model)
        found = standings(events, policy)
        shares = policy.with_shares({version: standing.share for version, standing in found.items()})
        return {
            "model": model,
            "champion": policy.champion,
            "routers": len(self._reports),
            "variants": [
                {
                    "version": version,
                    "variant": policy.variant(version),
                    "declared": policy.shadows.get(version, policy.share(version)),
                    "share": shares.shadows.get(version, shares.share(version)),
                    **self._described((model, version), found.get(version)),
                }
                for version in policy.versions
            ],
            "history": [event.model_dump(mode="json") for event in events[-50:]],
        }

    def _described(self, key: Key, standing: Standing | None) -> dict[str, Any]:
        trial = self._trials.get(key)
        return {
            "stopped_because": standing.stopped_because if standing else None,
            "breaker": self._breaker(key),
            "statistics": self._total(key).summary(),
            "disagreements": [
                {"request_id": each.request_id, "champion": each.champion, "version": each.version}
                for each in self._disagreements(key)
            ],
            "verdict": trial.verdict.model_dump(mode="json") if trial and trial.verdict else None,
        }

    def _judge(self, model: str, version: int, policy: ModelPolicy, standing: Standing) -> None:
        key = model, version
        champion = self._total((model, policy.champion))
        judged = self._total(key)
        trial = self._trials.get(key)
        if trial is None or trial.champion != policy.champion or trial.standing.since != standing.since:
            is_next_step = trial is not None and trial.champion == policy.champion and self._is_ramped(model, version)
            strata = trial.strata if trial is not None and is_next_step else []
            trial = Trial(policy.champion, standing, time.monotonic(), champion, judged, strata)
            self._trials[key] = trial
        step = Stratum(champion.since(trial.champion_before), judged.since(trial.version_before))
        guard = policy.guard
        if version in policy.shadows:  # its copies wait their turn: how long says nothing of it
            guard = guard.model_copy(update={"max_p99_ratio": None})
        trial.verdict = judge([*trial.strata, step], guard)
        if standing.since == BEFORE_ANY_EVENT and time.monotonic() - trial.began < GRACE_S:
            return  # whoever set it records that in a moment, and the trial begins anew
        trips = max((report.trips.get(key, 0) for _, report in self._reports.values()), default=0)
        if trial.verdict.decision == "rollback":
            self._stop(key, trial.verdict.because, trial.verdict.model_dump(mode="json"))
        elif step.challenger.failed and (trips >= TRIPS or (trips and not step.challenger.answered)):
            self._stop(key, _failing(step.challenger), trial.verdict.model_dump(mode="json"))
        elif trial.verdict.decision == "pass":
            self._go_on(key, policy, standing, trial, step)

    def _go_on(self, key: Key, policy: ModelPolicy, standing: Standing, trial: Trial, step: Stratum) -> None:
        model, version = key
        share = next_share(policy, version, standing.share)
        ramp = policy.ramp
        if share is None or ramp is None or time.monotonic() - trial.began < ramp.min_seconds:
            return
        if step.challenger.requests < ramp.min_requests or trial.verdict is None:
            return
        trial.strata.append(step)
        self._decide(
            Event(
                model=model,
                version=version,
                action="ramp",
                by="referee",
                share=share,
                because=trial.verdict.because,
                evidence=trial.verdict.model_dump(mode="json"),
            )
        )

    def _stop(self, key: Key, because: str, evidence: dict[str, Any]) -> None:
        model, version = key
        logger.warning("%s version %d is stopped: %s", model, version, because)
        self._decide(
            Event(
                model=model,
                version=version,
                action="rollback",
                by="referee",
                share=0.0,
                because=because,
                evidence=evidence,
            )
        )

    def _decide(self, event: Event) -> None:
        History(self._store, event.model).append(event)

    def _is_ramped(self, model: str, version: int) -> bool:
        """Whether the newest decision about a version was the referee's own step."""
        newest = next((event for event in reversed(self._events(model)) if event.version == version), None)
        return newest is not None and newest.action == "ramp"

    def _shares(self, model: str, policy: ModelPolicy) -> dict[int, float]:
        return {version: each.share for version, each in standings(self._events(model), policy).items()}

    def _events(self, model: str) -> list[Event]:
        """The model's history, read again only when it has changed."""
        history = History(self._store, model)
        try:
            status = history.path.stat()
            state = status.st_mtime_ns, status.st_size
        except FileNotFoundError:
            state = 0, 0
        known = self._histories.get(model)
        if known is None or known[0] != state:
            known = self._histories[model] = state, history.events()
        return known[1]

    def _total(self, key: Key) -> VariantStatistics:
        """All that was ever seen of a version, with its feedback."""
        seen = [report.statistics[key] for _, report in self._reports.values() if key in report.statistics]
        champion = self._policy.models[key[0]].champion
        return total([*seen, self._gone.get(key, VariantStatistics()), self._feedback.statistics(*key, champion)])

    def _forget(self) -> None:
        """Keep the sums of Routers that are gone, and nothing else of them."""
        now = time.monotonic()
        for name, (at, report) in list(self._reports.items()):
            if now - at > FORGOTTEN_S:
                del self._reports[name]
                for key, statistics in report.statistics.items():
                    self._gone[key] = self._gone.get(key, VariantStatistics()).add(statistics)

    def _breaker(self, key: Key) -> str:
        states = {report.breakers.get(key, "closed") for _, report in self._reports.values()}
        return next((state for state in ("open", "half open") if state in states), "closed")

    def _disagreements(self, key: Key) -> list[Disagreement]:
        return [each for _, report in self._reports.values() for each in report.disagreements.get(key, ())][-20:]


def _failing(statistics: VariantStatistics) -> str:
    """Why a version that does not answer is stopped."""
    kinds = ", ".join(f"{count} x {code}" for code, count in statistics.failures.most_common(3))
    return f"it failed {statistics.failed} of {statistics.requests} requests, the last ones in a row ({kinds})"
