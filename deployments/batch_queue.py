"""Opportunistic batching: what waits when a worker becomes free goes into its next batch.

The Router has a queue per variant, whose workers are calls in flight; a ModelServer has one, whose workers are
threads. Nothing waits while a worker is free, and no batch is closed before its worker is: batches that are closed
early queue behind a running one, and stay small.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from deployments.messages import MAX_CALL_BYTES
from models.errors import ModelUnavailable, Overloaded

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many batches run at a time, how many rows and bytes one may have, and how many rows may wait for one.

    A batch that is not full waits up to `timeout_s` for company, even while a worker is free.
    """

    workers: int
    max_rows: int
    max_waiting_rows: int
    max_bytes: int = MAX_CALL_BYTES
    timeout_s: float = 0.0


@dataclass(slots=True, eq=False)
class Entry(Generic[Item, Result]):
    """An item on its way: its size, when it came, when its batch began (both time.perf_counter), and its result."""

    item: Item
    rows: int
    size_bytes: int
    arrived: float
    result: asyncio.Future[Result]
    started: float = math.nan
    batch: "asyncio.Task[None] | None" = None

    @property
    def waited_ms(self) -> float:
        """How long it waited for its batch."""
        return (self.started - self.arrived) * 1000


class BatchQueue(Generic[Item, Result]):
    """Runs items in batches, oldest first. `run` takes the entries of one batch and gives a result for each.

    An error of `run` is the result of every item of that batch. An item whose caller has gone leaves the queue; a
    batch whose callers have all gone is cancelled.
    """

    def __init__(self, run: Callable[[list[Entry[Item, Result]]], Awaitable[Sequence[Result]]], limits: Limits) -> None:
        self._run = run
        self._limits = limits
        self._waiting: deque[Entry[Item, Result]] = deque()
        self._running: dict[asyncio.Task[None], list[Entry[Item, Result]]] = {}
        self._is_waking = False
        self._timer: asyncio.TimerHandle | None = None
        self.waiting_rows = 0

    @property
    def limits(self) -> Limits:
        """May change at any time."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self._wake()

    @property
    def running(self) -> int:
        """Number of batches that run now."""
        return len(self._running)

    def admit(self) -> None:
        """Raise Overloaded where no more may wait. Whoever is admitted brings all that it has.

        What free workers are about to take does not wait.
        """
        free = max(0, self._limits.workers - len(self._running))
        if self.waiting_rows >= self._limits.max_waiting_rows + free * self._limits.max_rows:
            raise Overloaded(f"{self.waiting_rows} rows are waiting for the model already; try again shortly")

    async def submit(self, item: Item, rows: int = 1, size_bytes: int = 0) -> Result:
        """Wait for the item's result. Raises whatever `run` raises."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        entry: Entry[Item, Result] = Entry(item, rows, size_bytes, time.perf_counter(), result)
        self._waiting.append(entry)
        self.waiting_rows += rows
        self._wake()
        try:
            return await result
        except asyncio.CancelledError:
            self._leave(entry)
            raise

    def _wake(self) -> None:
        """Start batches once the loop has taken in everything that came at the same time."""
        if self._waiting and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._is_waking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._running) < self._limits.workers:
            if (remaining_s := self._company_s()) > 0:
                self._timer = asyncio.get_running_loop().call_later(remaining_s, self._start)
                return
            entries = self._take()
            batch = asyncio.ensure_future(self._finish(entries))
            self._running[batch] = entries
            for entry in entries:
                entry.batch = batch
            batch.add_done_callback(self._ended)

    def _company_s(self) -> float:
        """How long the oldest item still waits for company."""
        if not self._limits.timeout_s or self.waiting_rows >= self._limits.max_rows:
            return 0.0
        return self._waiting[0].arrived + self._limits.timeout_s - time.perf_counter()

    def _take(self) -> list[Entry[Item, Result]]:
        """The oldest items: an equal share for each free worker, and no more than a batch may have."""
        free = self._limits.workers - len(self._running)
        share = min(self._limits.max_rows, math.ceil(self.waiting_rows / free))
        now = time.perf_counter()
        entries: list[Entry[Item, Result]] = []
        rows = size_bytes = 0
        while self._waiting:
            first = self._waiting[0]
            if entries and (rows + first.rows > share or size_bytes + first.size_bytes > self._limits.max_bytes):
                break
            entries.append(self._waiting.popleft())
            first.started = now
            rows += first.rows
            size_bytes += first.size_bytes
        self.waiting_rows -= rows
        return entries

    async def _finish(self, entries: list[Entry[Item, Result]]) -> None:
        try:
            for entry, result in zip(entries, await self._run(entries), strict=True):
                if not entry.result.done():
                    entry.result.set_result(result)
        except Exception as error:  # it is raised in every caller
            for entry in entries:
                if not entry.result.done():
                    entry.result.set_exception(error)

    def _ended(self, batch: asyncio.Task[None]) -> None:
        for entry in self._running.pop(batch):
            if not entry.result.done():  # the batch itself was cancelled
                entry.result.set_exception(ModelUnavailable("the batch was given up"))
        self._wake()

    def _leave(self, entry: Entry[Item, Result]) -> None:
        """The caller has gone."""
        if entry.batch is None:
            self._waiting.remove(entry)
            self.waiting_rows -= entry.rows
        elif all(other.result.cancelled() for other in self._running.get(entry.batch, [])):
            entry.batch.cancel()
