"""A request among the variants: the one that was drawn answers, and the champion stands in where it fails."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from deployments.agreement import check, said
from deployments.breaker import Breaker
from deployments.copies import Copies
from deployments.lane import Lane
from deployments.messages import Answer, Outcome
from deployments.question import Asked, Key, Served, Variant
from deployments.scores import Scores
from models.errors import (
    UNEXPECTED,
    DeadlineExceeded,
    InvalidRequest,
    PayloadTooLarge,
    TiltyardError,
    UnsupportedMediaType,
)
from models.manifest import Manifest
from models.policy import Fallback

logger = logging.getLogger("ray.serve")

CLIENTS_FAULT = (InvalidRequest, PayloadTooLarge, UnsupportedMediaType)
"""Errors that say that the request is wrong, whoever is asked."""


class Contest:
    """The variants of all models as one Router sees them: it asks them, keeps their scores and their breakers."""

    def __init__(self, lane_of: Callable[[Key], Lane], max_copies: int) -> None:
        self.scores = Scores()
        self.breakers: dict[Key, Breaker] = {}
        self._lane_of = lane_of
        self._copies = Copies(lane_of, self.scores, max_copies)

    def breaker(self, key: Key) -> Breaker:
        """The breaker of a challenger."""
        if key not in self.breakers:
            self.breakers[key] = Breaker()
        return self.breakers[key]

    def forget(self, live: set[Key]) -> None:
        """Drop versions that are gone."""
        self.scores.forget(live)
        self.breakers = {key: breaker for key, breaker in self.breakers.items() if key in live}

    async def answer(self, asked: Asked) -> list[Served]:
        """Every item's outcome. Raises a TiltyardError where nobody could answer any."""
        shadows = [version for version, share in asked.policy.shadows.items() if share and random.random() < share]
        if asked.variant.name == "challenger" and not asked.variant.by_number:
            served = await self._challenge(asked, bool(shadows))
        else:
            served = await self._ask(asked.variant, asked, range(len(asked.question)), bool(shadows))
        self._copies.send(asked, served, shadows)
        return served

    def fail(self, challenger: Key, fallback: Fallback, error: TiltyardError) -> None:
        """A challenger did not answer, and the champion does."""
        self.breaker(challenger).note(True, fallback)
        self.scores.note_failure(challenger, error)

    async def _challenge(self, asked: Asked, is_shared: bool) -> list[Served]:
        """Ask a challenger; what it does not answer well and in time, the champion answers."""
        started = time.perf_counter()
        question, challenger, fallback = asked.question, asked.variant, asked.policy.fallback
        everything = range(len(question))
        lane = self._lane_of(challenger.key)
        limit_s = min(fallback.after_s, (asked.deadline - time.monotonic()) / 2)
        outcomes = await in_time(
            question.ask(lane, everything, asked.deadline, shared=is_shared), limit_s, len(everything)
        )
        outcomes = [checked(each, lane.known, question.rows(item)) for item, each in enumerate(outcomes)]
        good = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        self._note(challenger, asked, good, started)
        failed = [item for item in everything if not isinstance(outcomes[item], Answer)]
        if not failed:
            self.breaker(challenger.key).note(False, fallback)
            return [Served(challenger, outcome) for outcome in outcomes]
        stood_in = await self._stand_in(asked, failed, outcomes)
        return [stood_in.get(item, Served(challenger, outcomes[item])) for item in everything]

    async def _stand_in(self, asked: Asked, items: Sequence[int], failures: Sequence[Outcome]) -> dict[int, Served]:
        """The champion's outcomes. What it finds wrong with the request as well was no failure of the challenger."""
        try:
            served = await self._ask(asked.champion, asked, items)
        except TiltyardError as error:
            served = [Served(asked.champion, error)] * len(items)
        for item, each in zip(items, served, strict=True):
            failure = failures[item]
            if isinstance(failure, TiltyardError) and not isinstance(each.outcome, CLIENTS_FAULT):
                self.fail(asked.variant.key, asked.policy.fallback, failure)
        return dict(zip(items, served, strict=True))

    async def _ask(self, variant: Variant, asked: Asked, items: Sequence[int], is_shared: bool = False) -> list[Served]:
        started = time.perf_counter()
        try:
            outcomes = await asked.question.ask(self._lane_of(variant.key), items, asked.deadline, shared=is_shared)
        except TiltyardError as error:
            self._note(variant, asked, [error], started)
            raise
        self._note(variant, asked, outcomes, started)
        return [Served(variant, outcome) for outcome in outcomes]

    def _note(self, variant: Variant, asked: Asked, outcomes: Sequence[Outcome], started: float) -> None:
        """Score answers, and failures that were not the client's."""
        if len(asked.policy.versions) == 1 or variant.by_number:
            return
        milliseconds = (time.perf_counter() - started) * 1000
        manifest = self._lane_of(variant.key).known
        for outcome in outcomes:
            if isinstance(outcome, Answer):
                self.scores.note_latency(variant.key, milliseconds)
                if manifest is not None:
                    rows = said(outcome, manifest)
                    is_one = len(asked.question) == len(rows) == 1
                    self.scores.note_said(variant.key, asked.request_id if is_one else None, rows)
            elif not isinstance(outcome, CLIENTS_FAULT):
                self.scores.note_failure(variant.key, outcome)


async def in_time(asking: Coroutine[Any, Any, list[Outcome]], limit_s: float, count: int) -> list[Outcome]:
    """Outcomes; whatever goes wrong, a timeout too, is the outcome of every item."""
    error: TiltyardError
    try:
        async with asyncio.timeout(limit_s):
            return await asking
    except TimeoutError:
        error = DeadlineExceeded(f"no answer within {limit_s:.3g} s")
    except TiltyardError as raised:
        error = raised
    except Exception:
        logger.exception("a variant could not be asked")
        error = TiltyardError(UNEXPECTED)
    return [error] * count


def checked(outcome: Outcome, manifest: Manifest | None, rows: int) -> Outcome:
    """The answer, or why it is none."""
    if isinstance(outcome, Answer) and manifest is not None:
        try:
            check(outcome, manifest, rows)
        except TiltyardError as error:
            return error
    return outcome
