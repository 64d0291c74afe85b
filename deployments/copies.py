"""Copies of requests, for those who only watch: shadows, and the champion beside a challenger's answer.

No answer waits for them: they go out when it is ready, and only as many as their budget allows; one too many is dropped
and counted. A shadow computes with what the others leave of the machine.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from deployments.agreement import Agreement, check, compare, said
from deployments.background import start
from deployments.copy_budget import CopyBudget, CopyLimits
from deployments.lane import Lane
from deployments.messages import Answer, Outcome
from deployments.question import Asked, Key, Served, Variant, in_time
from deployments.scores import Scores
from deployments.traffic_log import TrafficLog
from deployments.traffic_record import Record
from models.errors import ModelUnavailable, TiltyardError
from models.signature import rows_of

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 30.0
"""How long a copy may take; nobody waits for it."""

Watcher = tuple[Variant, int]
"""Who gets a copy, and the version that is judged by it."""


class Copies:
    """Sends copies, to each version within its budget, and scores what comes back."""

    def __init__(
        self, lane_of: Callable[[Key], Lane], scores: Scores, limits: CopyLimits, log: TrafficLog | None = None
    ) -> None:
        self._lane_of = lane_of
        self._scores = scores
        self._log = log
        self._budgets: defaultdict[Key, CopyBudget] = defaultdict(lambda: CopyBudget(limits))
        self._tasks: set[asyncio.Task[None]] = set()

    def forget(self, live: set[Key]) -> None:
        """Drop versions that are gone, and owe nothing."""
        for key in self._budgets.keys() - live:
            if not self._budgets[key].on_their_way:
                del self._budgets[key]

    def has_room(self, model: str, shadows: Sequence[int]) -> bool:
        """Whether any of the shadows would get a copy now, so that what is decoded is worth keeping for it."""
        return any(self._budgets[model, shadow].has_room for shadow in shadows)

    def watchers(self, asked: Asked, served: Sequence[Served], shadows: Sequence[int]) -> list[Watcher]:
        """Who gets a copy: each of the shadows, and of a share of a challenger's requests the champion."""
        watchers = [(Variant(asked.variant.model, shadow, "shadow"), shadow) for shadow in shadows]
        is_challengers = any(each.variant.name == "challenger" for each in served) and not asked.variant.by_number
        if is_challengers and random.random() < asked.policy.guard.compare:
            watchers.append((asked.champion, asked.variant.version))
        there_is_room = []
        for watcher, judged in watchers:
            if self._budgets[watcher.key].has_room:
                there_is_room.append((watcher, judged))
            else:
                self._scores.note_dropped((asked.variant.model, judged))
        return there_is_room

    def send(
        self, asked: Asked, served: Sequence[Served], watchers: Sequence[Watcher], records: Sequence[Record] = ()
    ) -> None:
        """Send a copy to each; wait for none. The champion's answer is told beside the `records` of a challenger's."""
        for watcher, _ in watchers:
            self._budgets[watcher.key].take()
            start(self._send(watcher, asked, served, records), self._tasks)

    async def _send(self, watcher: Variant, asked: Asked, served: Sequence[Served], records: Sequence[Record]) -> None:
        items = [item for item, each in enumerate(served) if isinstance(each.outcome, Answer)]
        started, busy_ms = time.perf_counter(), 0.0
        try:
            if not items:
                return
            outcomes = await self._asked(watcher, asked, items)
            milliseconds = (time.perf_counter() - started) * 1000
            if watcher.name == "shadow":
                busy_ms = _busy_ms(asked, items, outcomes, milliseconds)
                self._note(watcher, asked, items, outcomes, milliseconds)
            agreements = self._compare({item: served[item] for item in items}, watcher, outcomes, asked)
            if self._log is not None and watcher.name == "shadow":
                known = self._lane_of(watcher.key).known
                copies = {item: Served(watcher, each, known) for item, each in zip(items, outcomes, strict=True)}
                self._log.note_copies(asked, dict(enumerate(served)), copies, agreements, milliseconds)
            elif self._log is not None:
                self._log.note_comparison(records, watcher, agreements)
        except Exception:  # nobody waits who could be told
            logger.exception("a copy for %s version %d failed", watcher.model, watcher.version)
        finally:
            self._budgets[watcher.key].give_back(busy_ms / 1000)

    async def _asked(self, watcher: Variant, asked: Asked, items: Sequence[int]) -> list[Outcome]:
        lane, deadline = self._lane_of(watcher.key), time.monotonic() + TIMEOUT_S
        asking = asked.question.ask(lane, items, deadline, background=watcher.name == "shadow")
        return await in_time(asking, TIMEOUT_S, len(items))

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

    def _compare(
        self, served: Mapping[int, Served], watcher: Variant, outcomes: Sequence[Outcome], asked: Asked
    ) -> dict[int, list[Agreement]]:
        """Note how far champion and other agree, whichever of the two answered the client; the rows of each item."""
        manifest = self._lane_of(asked.champion.key).known
        rows: dict[int, list[Agreement]] = {}
        judged = watcher.version
        for (item, each), outcome in zip(served.items(), outcomes, strict=True):
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
            rows[item] = compare(champions, other, manifest, asked.policy.guard.tolerance)
        self._scores.note_agreement((watcher.model, judged), asked.request_id, list(chain.from_iterable(rows.values())))
        return rows


def _busy_ms(asked: Asked, items: Sequence[int], outcomes: Sequence[Outcome], milliseconds: float) -> float:
    """How long a shadow was busy with a copy: of one row what it says itself, else all the time that it took."""
    if len(items) == 1 and asked.question.rows(items[0]) == 1 and isinstance(outcomes[0], Answer):
        return outcomes[0].timing.compute_ms
    return milliseconds
