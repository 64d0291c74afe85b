"""A request among the variants: the one that was drawn answers, and the champion stands in where it fails."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from deployments.agreement import check, said
from deployments.breaker import Breaker
from deployments.copies import Copies
from deployments.copy_budget import CopyLimits
from deployments.lane import Lane
from deployments.messages import Answer, Outcome
from deployments.question import Asked, Key, Served, Variant, in_time
from deployments.scores import Scores
from deployments.traffic_log import TrafficLog
from models.errors import (
    UNEXPECTED,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    PayloadTooLarge,
    TiltyardError,
    UnsupportedMediaType,
)
from models.manifest import Manifest
from models.policy import Fallback

logger = logging.getLogger("ray.serve")

CLIENTS_FAULT = (InvalidRequest, PayloadTooLarge, UnsupportedMediaType)
"""Errors that say that the request is wrong, whoever is asked."""

SLACK_S = 0.01
"""A timer may ring that much early."""


class Contest:
    """The variants of all models as one Router sees them: it asks them, keeps their scores and their breakers."""

    def __init__(self, lane_of: Callable[[Key], Lane], limits: CopyLimits, log: TrafficLog | None = None) -> None:
        self.scores = Scores()
        self.breakers: dict[Key, Breaker] = {}
        self._lane_of = lane_of
        self._log = log
        self._copies = Copies(lane_of, self.scores, limits, log)

    def breaker(self, key: Key) -> Breaker:
        """The breaker of a challenger."""
        if key not in self.breakers:
            self.breakers[key] = Breaker()
        return self.breakers[key]

    def forget(self, live: set[Key]) -> None:
        """Drop versions that are gone."""
        self.scores.forget(live)
        self._copies.forget(live)
        self.breakers = {key: breaker for key, breaker in self.breakers.items() if key in live}

    async def answer(self, asked: Asked) -> list[Served]:
        """Every item's outcome. Raises a TiltyardError where nobody could answer any."""
        shadows = [version for version, share in asked.policy.shadows.items() if share and random.random() < share]
        is_shared = self._copies.has_room(asked.variant.model, shadows)
        try:
            if asked.variant.name == "challenger" and not asked.variant.by_number:
                served = await self._challenge(asked, is_shared)
            else:
                served = await self._ask(asked.variant, asked, is_shared)
        except BaseException as error:
            if self._log is not None:
                self._log.note_failure(asked, error, self._lane_of(asked.variant.key).known)
            raise
        watchers = self._copies.watchers(asked, served, shadows)
        is_compared = any(watcher.name == "champion" for watcher, _ in watchers)
        records = self._log.note(asked, served, is_compared) if self._log is not None else []
        self._copies.send(asked, served, watchers, records)
        return served

    def fail(self, challenger: Key, fallback: Fallback, error: TiltyardError, is_worse: bool = True) -> None:
        """A challenger did not answer; where it `is_worse` than the champion, which does, its breaker hears of it."""
        if is_worse:
            self.breaker(challenger).note(True, fallback)
        self.scores.note_failure(challenger, error)

    async def _challenge(self, asked: Asked, is_shared: bool) -> list[Served]:
        """Ask a challenger; what it does not answer well and in time, the champion answers."""
        started = time.perf_counter()
        question, challenger = asked.question, asked.variant
        everything = range(len(question))
        lane = self._lane_of(challenger.key)
        limit_s = patience_s(asked.policy.fallback, asked.deadline)
        asking = question.ask(lane, everything, asked.deadline, shared=is_shared)
        outcomes = await in_time(asking, limit_s, len(everything))
        champions = self._lane_of(asked.champion.key).known
        outcomes = [
            checked(checked(each, lane.known, question.rows(item)), champions, question.rows(item), lane.known)
            for item, each in enumerate(outcomes)
        ]
        failed = [item for item in everything if not isinstance(outcomes[item], Answer)]
        asked_champion = time.perf_counter()
        try:
            stood_in = await self._stand_in(asked, failed) if failed else {}
        except asyncio.CancelledError:
            if _is_due(asked):  # and the champion had no answer either
                error = next((each for each in outcomes if isinstance(each, TiltyardError)), DeadlineExceeded())
                self.fail(challenger.key, asked.policy.fallback, error, is_worse=False)
            raise
        is_champion_well = time.perf_counter() - asked_champion <= limit_s
        failures = {
            item: outcome
            for item, outcome in enumerate(outcomes)
            if isinstance(outcome, TiltyardError) and not isinstance(stood_in[item].outcome, CLIENTS_FAULT)
        }
        if failures:
            is_worse = is_champion_well and any(isinstance(stood_in[item].outcome, Answer) for item in failures)
            self.fail(challenger.key, asked.policy.fallback, next(iter(failures.values())), is_worse)
            if self._log is not None:
                self._log.note_failures(asked, failures, lane.known)
        elif len(failed) < len(everything):
            self.breaker(challenger.key).note(False, asked.policy.fallback)
            self._score(challenger, asked, outcomes, started)
        return [stood_in.get(item) or Served(challenger, outcomes[item], lane.known) for item in everything]

    async def _stand_in(self, asked: Asked, items: Sequence[int]) -> dict[int, Served]:
        """The champion's outcomes. They are not scored: they are of requests that were not drawn for it."""
        lane = self._lane_of(asked.champion.key)
        try:
            outcomes = await asked.question.ask(lane, items, asked.deadline)
        except TiltyardError as error:
            outcomes = [error] * len(items)
        served = [Served(asked.champion, outcome, lane.known) for outcome in outcomes]
        return dict(zip(items, served, strict=True))

    async def _ask(self, variant: Variant, asked: Asked, is_shared: bool) -> list[Served]:
        started = time.perf_counter()
        lane = self._lane_of(variant.key)
        try:
            outcomes = await asked.question.ask(lane, range(len(asked.question)), asked.deadline, shared=is_shared)
        except TiltyardError as error:
            self._score(variant, asked, [error], started)
            raise
        except asyncio.CancelledError:
            if _is_due(asked):  # else it is the client who went
                self._score(variant, asked, [DeadlineExceeded()], started)
            raise
        self._score(variant, asked, outcomes, started)
        return [Served(variant, outcome, lane.known) for outcome in outcomes]

    def _score(self, variant: Variant, asked: Asked, outcomes: Sequence[Outcome], started: float) -> None:
        """Score a request, once however much it asked; what was wrong with it is nobody's failure.

        Items of one request are not independent: what befalls one of them often befalls all.
        """
        if len(asked.policy.versions) == 1 or variant.by_number:
            return
        failure = next((o for o in outcomes if isinstance(o, TiltyardError) and not isinstance(o, CLIENTS_FAULT)), None)
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        if failure is not None:
            self.scores.note_failure(variant.key, failure)
        elif answers:
            self.scores.note_latency(variant.key, (time.perf_counter() - started) * 1000)
            try:
                manifest = self._lane_of(variant.key).known
                rows = [row for answer in answers for row in said(answer, manifest)] if manifest else []
                self.scores.note_said(variant.key, asked.request_id, rows)
            except Exception:  # an answer that cannot be read is an answer nevertheless
                logger.exception("an answer of %s version %d could not be scored", variant.model, variant.version)


def _is_due(asked: Asked) -> bool:
    """Whether a request is over because of its deadline."""
    return time.monotonic() > asked.deadline - SLACK_S


def patience_s(fallback: Fallback, deadline: float) -> float:
    """How long a challenger is waited for, so that the champion has as long."""
    return max(0.0, min(fallback.after_s, (deadline - time.monotonic()) / 2))


def checked(outcome: Outcome, manifest: Manifest | None, rows: int, own: Manifest | None = None) -> Outcome:
    """The answer, or why it is none by a manifest: its own, or the champion's, for whom `own` stands in."""
    if not isinstance(outcome, Answer) or manifest is None:
        return outcome
    try:
        if own is not None and (own.labels, own.output) != (manifest.labels, manifest.output):
            raise ModelFailed("its classes are not the champion's")
        check(outcome, manifest, rows)
    except TiltyardError as error:
        return error
    except Exception:
        logger.exception("an answer could not be checked")
        return TiltyardError(UNEXPECTED)
    return outcome
