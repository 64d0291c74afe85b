"""Watches the variants, and ramps or rolls back: what Routers report in, the shares that challengers may have out."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from deployments.drift_guard import DriftStanding, drift_event, drift_standing, is_stopped_by_drift
from deployments.feedback import Feedback, Noted, Truth
from deployments.journal import Journal
from deployments.question import Key
from deployments.reports import Mark, Reports
from deployments.scores import RouterReport
from models.drift_notice import DriftNotice
from models.errors import ModelNotFound
from models.policy import ModelPolicy, RoutingPolicy
from models.rollout import BEFORE_ANY_EVENT, Action, Event, Standing, newest_decision, next_share, standings
from models.store import Store
from models.variant_statistics import VariantStatistics
from models.verdict import Stratum, Verdict, judge

logger = logging.getLogger("ray.serve")

GRACE_S = 5.0
"""A version that no event names was set by hand, or by a command that is not done yet."""

TRIPS = 2
"""A challenger whose breaker opened, and opened again when it was tried once more, is stopped; one that answered
nothing at all when it opened the first time."""


@dataclass(frozen=True, slots=True)
class Directive:
    """What the Routers obey: the shares of challengers and shadows, by model and version.

    It is for the policy of the time `configured`, or an older one.
    """

    shares: Mapping[str, Mapping[int, float]]
    configured: float


class RefereeHandle(Protocol):
    """The referee, as a Router sees it."""

    async def report(self, report: RouterReport) -> Directive:
        """Tell it what was seen, and be told what to do. Raises a TiltyardError."""

    async def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands. Raises a TiltyardError."""

    async def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
        """Tell it what the classes of requests, by id, really were. Raises a TiltyardError."""


@dataclass(slots=True)
class Trial:
    """One version on trial: the steps that it has behind it, and the moment at which this one began."""

    champion: int
    standing: Standing
    began: float
    mark: Mark
    feedback: dict[int, VariantStatistics]
    strata: list[Stratum] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def has_answered(self) -> bool:
        """Whether the version answered anything in the steps behind it."""
        return any(stratum.challenger.answered for stratum in self.strata)


class Referee:
    """Sums what all Routers saw, judges, and writes each decision into the model's history."""

    def __init__(self, store: Store) -> None:
        self._journal = Journal(store)
        self._policy = RoutingPolicy()
        self._configured = 0.0
        self._reports = Reports()
        self._feedback = Feedback()
        self._trials: dict[Key, Trial] = {}
        self._live: set[Key] = set()

    def report(self, report: RouterReport) -> Directive:
        """Take in what a Router saw since it started, and tell it what to do."""
        self._reports.take(report)
        if report.configured > self._configured:
            self._policy, self._configured = report.policy, report.configured
        self._feedback.remember(report.predictions)
        shares = {name: self._shares(name, policy) for name, policy in self._policy.models.items()}
        return Directive(shares, self._configured)

    def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
        """Note what the classes of requests, by id, really were."""
        return [self._feedback.note(*truth) for truth in truths]

    def drift(self, notices: Sequence[DriftNotice]) -> None:
        """Write down how drift stands where that has changed, and stop what its guard stops for it."""
        for notice in notices:
            if drift_standing(self._journal.events(notice.model), notice.version) != DriftStanding.of(notice):
                self._journal.append(drift_event(notice))
        for notice in notices:
            policy = self._policy.models.get(notice.model)
            if policy is not None:
                self._stop_on_drift(notice, policy)

    def judge(self) -> None:
        """Look at every version on trial, and decide. Called about once a second."""
        self._journal.retry()
        told: set[Key] = set()
        for model, policy in self._policy.models.items():
            for version, standing in standings(self._journal.events(model), policy).items():
                if standing.stopped_because is not None or standing.share > 0:
                    told.add((model, version))
                if standing.stopped_because is None and standing.share > 0:
                    try:
                        self._judge(model, version, policy, standing)
                    except Exception:  # the others are judged nevertheless
                        logger.exception("%s version %d could not be judged", model, version)
        self._live = {(model, version) for model, policy in self._policy.models.items() for version in policy.versions}
        self._trials = {key: trial for key, trial in self._trials.items() if key in told}

    def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands, as JSON. Raises ModelNotFound."""
        if model not in self._policy.models:
            there = ", ".join(self._policy.models) or "none yet"
            raise ModelNotFound(f"no rollout of model {model!r} is watched; there are: {there}")
        policy = self._policy.models[model]
        events = self._journal.events(model)
        found = standings(events, policy)
        now = policy.with_shares({version: standing.share for version, standing in found.items()}).parts
        began = self._reports.began
        return {
            "model": model,
            "champion": policy.champion,
            "routers": self._reports.routers,
            "agreeing": self._reports.agreeing(model, policy),
            "since": datetime.fromtimestamp(began, UTC).isoformat() if began is not None else None,
            "variants": [
                {
                    "version": version,
                    "variant": variant,
                    "declared": declared,
                    "share": now[version][1],
                    **self._described((model, version), policy.champion, found.get(version)),
                }
                for version, (variant, declared) in policy.parts.items()
            ],
            "history": [event.model_dump(mode="json") for event in events[-50:]],
        }

    def _described(self, key: Key, champion: int, standing: Standing | None) -> dict[str, Any]:
        trial = self._trials.get(key)
        statistics = self._reports.total(key).add(self._feedback.statistics(*key, champion))
        return {
            "stopped_because": standing.stopped_because if standing else None,
            "breaker": self._reports.breaker(key),
            "statistics": statistics.summary(),
            "disagreements": [
                {"request_id": each.request_id, "champion": each.champion, "version": each.version}
                for each in self._reports.disagreements(key)
            ],
            "verdict": trial.verdict.model_dump(mode="json") if trial and trial.verdict else None,
        }

    def _judge(self, model: str, version: int, policy: ModelPolicy, standing: Standing) -> None:
        key = model, version
        trial = self._trials.get(key)
        if trial is None or trial.champion != policy.champion or trial.standing.since != standing.since:
            trial = self._trials[key] = self._new_trial(key, policy, standing, trial)
        step = Stratum(self._since(trial, model, policy.champion), self._since(trial, model, version))
        strata = [*trial.strata, step]
        if version in policy.shadows:  # its copies wait their turn: how long says nothing of it
            trial.verdict = judge(strata, policy.guard.model_copy(update={"max_p99_ratio": None}))
        else:
            trial.verdict = judge(strata, policy.guard, 1000 * policy.fallback.after_s)
        if standing.since == BEFORE_ANY_EVENT and time.monotonic() - trial.began < GRACE_S:
            return  # whoever set it records that in a moment
        trips = self._reports.trips_since(trial.mark, key)
        has_answered = bool(step.challenger.answered) or trial.has_answered
        if trial.verdict.decision == "rollback":
            self._decide(key, "rollback", 0.0, trial.verdict.because, trial.verdict)
        elif step.challenger.failed and trips >= (TRIPS if has_answered else 1):
            self._decide(key, "rollback", 0.0, _failing(step.challenger), trial.verdict)
        elif trial.verdict.decision == "pass":
            self._go_on(key, policy, trial, step)

    def _new_trial(self, key: Key, policy: ModelPolicy, standing: Standing, last: Trial | None) -> Trial:
        """A trial from now on; after a step of the ramp with the evidence of the steps before.

        Its traffic begins before the command that set it has recorded that: what was seen meanwhile counts.
        """
        model, version = key
        if last is not None and last.champion == policy.champion and last.standing.since == BEFORE_ANY_EVENT:
            return replace(last, standing=standing)
        is_recorded_just_now = datetime.now(UTC) - standing.since < timedelta(seconds=GRACE_S)
        has_just_arrived = key not in self._live and (standing.since == BEFORE_ANY_EVENT or is_recorded_just_now)
        is_next_step = last is not None and last.champion == policy.champion and self._is_ramped(model, version)
        feedback = {each: self._feedback.statistics(model, each, policy.champion) for each in policy.versions}
        return Trial(
            policy.champion,
            standing,
            time.monotonic(),
            self._reports.mark(key if has_just_arrived else None),
            feedback,
            last.strata if last is not None and is_next_step else [],
        )

    def _since(self, trial: Trial, model: str, version: int) -> VariantStatistics:
        """What was seen of a version since its trial, or the step that it is at, began."""
        before = trial.feedback.get(version, VariantStatistics())
        feedback = self._feedback.statistics(model, version, trial.champion).since(before)
        return self._reports.since(trial.mark, (model, version)).add(feedback)

    def _go_on(self, key: Key, policy: ModelPolicy, trial: Trial, step: Stratum) -> None:
        share = next_share(policy, key[1], trial.standing.share)
        ramp = policy.ramp
        if share is None or ramp is None or trial.verdict is None:
            return
        if time.monotonic() - trial.began < ramp.min_seconds or step.challenger.requests < ramp.min_requests:
            return
        trial.strata.append(step)
        self._decide(key, "ramp", share, trial.verdict.because, trial.verdict)

    def _stop_on_drift(self, notice: DriftNotice, policy: ModelPolicy) -> None:
        events = self._journal.events(notice.model)
        standing = standings(events, policy).get(notice.version)
        if standing is None or standing.share == 0 or not is_stopped_by_drift(notice, policy, events):
            return
        because = f"its drift is {notice.severity}, and the champion's is not: {notice.words}"
        self._decide((notice.model, notice.version), "rollback", 0.0, because, notice)

    def _decide(self, key: Key, action: Action, share: float, because: str, grounds: Verdict | DriftNotice) -> None:
        model, version = key
        logger.warning("%s version %d: %s to %g: %s", model, version, action, share, because)
        evidence = grounds.model_dump(mode="json")
        self._journal.append(
            Event(
                model=model,
                version=version,
                action=action,
                by="referee",
                share=share,
                because=because,
                evidence=evidence,
            )
        )

    def _is_ramped(self, model: str, version: int) -> bool:
        """Whether the newest decision about a version was the referee's own step."""
        newest = newest_decision(self._journal.events(model), version)
        return newest is not None and newest.action == "ramp"

    def _shares(self, model: str, policy: ModelPolicy) -> dict[int, float]:
        return {version: each.share for version, each in standings(self._journal.events(model), policy).items()}


def _failing(statistics: VariantStatistics) -> str:
    """Why a version that does not answer is stopped."""
    kinds = ", ".join(f"{count} x {code}" for code, count in statistics.failures.most_common(3))
    return f"it failed {statistics.failed} of {statistics.requests} requests, the last ones in a row ({kinds})"
