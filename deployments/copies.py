"""Copies of requests, for those who only watch: shadows, and the champion beside a challenger's answer.

They cost the answer nothing: they go out when it is ready, and only so many at a time; one too many is dropped and
counted. A shadow computes with what the others leave of the machine.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

from deployments.agreement import check, compare, said
from deployments.lane import Lane
from deployments.messages import Answer, Outcome
from deployments.question import Asked, Key, Served, Variant
from deployments.scores import Scores
from models.errors import DeadlineExceeded, ModelUnavailable, TiltyardError
from models.signature import rows_of

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 30.0
"""How long a copy may take; nobody waits for it."""


class Copies:
    """Sends copies, at most `max_copies` at a time to each version, and scores what comes back."""

    def __init__(self, lane_of: Callable[[Key], Lane], scores: Scores, max_copies: int) -> None:
        self._lane_of = lane_of
        self._scores = scores
        self._max_copies = max_copies
        self._on_their_way: Counter[Key] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, asked: Asked, served: Sequence[Served], shadows: Sequence[int]) -> None:
        """Send a copy to each of the shadows, and a share of a challenger's to the champion; wait for none."""
        watchers = [(Variant(asked.variant.model, shadow, "shadow"), shadow) for shadow in shadows]
        is_challengers = any(each.variant.name == "challenger" for each in served) and not asked.variant.by_number
        if is_challengers and random.random() < asked.policy.guard.compare:
            watchers.append((asked.champion, asked.variant.version))
        for watcher, judged in watchers:
            if self._on_their_way[watcher.key] >= self._max_copies:
                self._scores.note_dropped((asked.variant.model, judged))
                continue
            self._on_their_way[watcher.key] += 1
            task = asyncio.ensure_future(self._send(watcher, asked, served))
            self._tasks.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._tasks.discard)

    async def _send(self, watcher: Variant, asked: Asked, served: Sequence[Served]) -> None:
        items = [item for item, each in enumerate(served) if isinstance(each.outcome, Answer)]
        started = time.perf_counter()
        try:
            if not items:
                return
            outcomes = await self._asked(watcher, asked, items)
            milliseconds = (time.perf_counter() - started) * 1000
            if watcher.name == "shadow":
                self._note(watcher, asked, items, outcomes, milliseconds)
            self._compare([served[item] for item in items], watcher, outcomes, asked)
        except Exception:  # nobody waits who could be told
            logger.exception("a copy for %s version %d failed", watcher.model, watcher.version)
        finally:
            self._on_their_way[watcher.key] -= 1

    async def _asked(self, watcher: Variant, asked: Asked, items: Sequence[int]) -> list[Outcome]:
        lane = self._lane_of(watcher.key)
        deadline = time.monotonic() + TIMEOUT_S
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asked.question.ask(lane, items, deadline, background=watcher.name == "shadow")
        except TimeoutError:
            return [DeadlineExceeded(f"no answer within {TIMEOUT_S:g} s")] * len(items)
        except TiltyardError as error:
            return [error] * len(items)

    def _note(
        self, shadow: Variant, asked: Asked, items: Sequence[int], outcomes: Sequence[Outcome], milliseconds: float
    ) -> None:
        manifest = self._lane_of(shadow.key).known
        rows = []
        try:
            for item, outcome in zip(items, outcomes, strict=True):
                if not isinstance(outcome, Answer):
                    raise outcome
                if manifest is None:
                    raise ModelUnavailable("the version did not say what it is")
                check(outcome, manifest, asked.question.rows(item))
                rows += said(outcome, manifest)
        except TiltyardError as error:
            self._scores.note_failure(shadow.key, error)
            return
        self._scores.note_latency(shadow.key, milliseconds)
        self._scores.note_said(shadow.key, asked.request_id, rows)

    def _compare(self, served: Sequence[Served], watcher: Variant, outcomes: Sequence[Outcome], asked: Asked) -> None:
        """Note how far champion and other agree, whichever of the two answered the client."""
        manifest = self._lane_of(asked.champion.key).known
        rows = []
        judged = watcher.version
        for each, outcome in zip(served, outcomes, strict=True):
            answers = {each.variant.version: each.outcome, watcher.version: outcome}
            champions = answers.pop(asked.policy.champion, None)
            if champions is None or manifest is None or not answers:  # a shadow beside a challenger's answer
                continue
            judged, other = answers.popitem()
            if not isinstance(champions, Answer) or not isinstance(other, Answer):
                continue
            try:
                check(other, manifest, rows_of(champions.outputs))
            except TiltyardError:
                continue  # noted as its failure
            rows += compare(champions, other, manifest)
        self._scores.note_agreement((watcher.model, judged), asked.request_id, rows)
