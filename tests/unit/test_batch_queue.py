"""Opportunistic batching against workers of known cost; one tick is long against what the loop itself takes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from deployments.batch_queue import BatchQueue, Entry, Limits
from models.errors import ModelFailed, Overloaded

TICK_S = 0.05
Queue = BatchQueue[int, int]


class Worker:
    """Negates each item after a tick, however many there are; remembers its batches."""

    def __init__(self, cost_s: float = TICK_S) -> None:
        self.cost_s = cost_s
        self.batches: list[list[int]] = []
        self.cancelled = 0

    async def __call__(self, entries: list[Entry[int, int]]) -> Sequence[int]:
        items = [entry.item for entry in entries]
        self.batches.append(items)
        try:
            await asyncio.sleep(self.cost_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if any(item < 0 for item in items):
            raise ModelFailed("negative")
        return [-item for item in items]


def queue(worker: Worker, workers: int = 1, max_rows: int = 32, max_waiting_rows: int = 1000) -> Queue:
    return BatchQueue(worker, Limits(workers, max_rows, max_waiting_rows))


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await scenario()

    return asyncio.run(main())


def test_200_requests_a_second_are_sustained_by_batches_that_take_50_ms_whatever_their_size() -> None:
    worker = Worker(0.05)

    async def scenario() -> list[float]:
        waiting = queue(worker)
        latencies = []

        async def ask(item: int) -> None:
            started = time.perf_counter()
            assert await waiting.submit(item) == -item
            latencies.append(time.perf_counter() - started)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for item in range(400):
                await asyncio.sleep(max(0.0, began + item / 200 - time.perf_counter()))
                group.create_task(ask(item))
        return latencies

    latencies = sorted(run(scenario))
    assert len(latencies) == 400
    assert 400 / len(worker.batches) >= 8
    assert latencies[200] < 0.15, "the queue does not grow: who comes waits for one batch, then rides in the next"
    assert latencies[-1] < 0.5


def test_an_idle_worker_is_given_a_single_item_at_once() -> None:
    worker = Worker(0)

    async def scenario() -> float:
        waiting = queue(worker)
        await waiting.submit(0)
        started = time.perf_counter()
        for item in range(100):
            await waiting.submit(item)
        return (time.perf_counter() - started) / 100

    assert run(scenario) < 0.001


def test_what_comes_while_a_worker_is_busy_goes_into_its_next_batch_oldest_first() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker)
        first = asyncio.create_task(waiting.submit(1))
        await asyncio.sleep(TICK_S / 2)
        rest = [asyncio.create_task(waiting.submit(item)) for item in (2, 3, 4)]
        assert await asyncio.gather(first, *rest) == [-1, -2, -3, -4]

    run(scenario)
    assert worker.batches == [[1], [2, 3, 4]]


def test_free_workers_share_what_waits() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker, workers=4)
        await asyncio.gather(*(waiting.submit(item) for item in range(16)))

    run(scenario)
    assert [len(batch) for batch in worker.batches] == [4, 4, 4, 4]


def test_no_batch_has_more_rows_or_bytes_than_it_may() -> None:
    worker = Worker(0)

    async def scenario() -> None:
        waiting = queue(worker, max_rows=8)
        await asyncio.gather(*(waiting.submit(item, rows=3) for item in range(6)))
        waiting.limits = Limits(1, 8, 1000, max_bytes=10)
        await asyncio.gather(*(waiting.submit(item, size_bytes=4) for item in range(10, 14)))

    run(scenario)
    assert worker.batches == [[0, 1], [2, 3], [4, 5], [10, 11], [12, 13]]


def test_an_item_whose_caller_leaves_is_not_run_and_harms_nobody() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker)
        first = asyncio.create_task(waiting.submit(1))
        await asyncio.sleep(0.01)
        left, stayed = (asyncio.create_task(waiting.submit(item)) for item in (2, 3))
        await asyncio.sleep(0.01)
        left.cancel()
        assert list(await asyncio.gather(first, stayed)) == [-1, -3]
        assert left.cancelled()
        assert waiting.waiting_rows == 0

    run(scenario)
    assert worker.batches == [[1], [3]]


def test_a_batch_runs_on_for_those_who_stay_and_stops_when_all_have_gone() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker)
        left, stayed = (asyncio.create_task(waiting.submit(item)) for item in (1, 2))
        await asyncio.sleep(0.01)
        left.cancel()
        assert await stayed == -2
        assert worker.cancelled == 0
        everybody = [asyncio.create_task(waiting.submit(item)) for item in (3, 4)]
        await asyncio.sleep(0.01)
        for each in everybody:
            each.cancel()
        assert await waiting.submit(5) == -5
        assert worker.cancelled == 1
        await asyncio.sleep(0)
        assert waiting.running == 0

    run(scenario)
    assert worker.batches == [[1, 2], [3, 4], [5]]


def test_an_error_is_for_its_batch_alone() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker, max_rows=1)
        outcomes = await asyncio.gather(*(waiting.submit(item) for item in (1, -1, 2)), return_exceptions=True)
        assert [outcomes[0], str(outcomes[1]), outcomes[2]] == [-1, "negative", -2]

    run(scenario)


def test_nobody_is_admitted_to_a_full_queue_and_the_admitted_are_answered() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker, max_rows=1, max_waiting_rows=4)
        admitted = []
        for item in range(5):  # the first of them goes to the worker, four wait
            waiting.admit()
            admitted.append(asyncio.create_task(waiting.submit(item)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="4 rows are waiting"):
            waiting.admit()
        assert list(await asyncio.gather(*admitted)) == [0, -1, -2, -3, -4]
        waiting.admit()

    run(scenario)


def test_what_free_workers_are_about_to_take_does_not_wait() -> None:
    async def scenario() -> None:
        waiting = queue(Worker(0), workers=2, max_rows=8, max_waiting_rows=1)
        asked = [asyncio.ensure_future(waiting.submit(item)) for item in range(16)]
        waiting.admit()
        assert list(await asyncio.gather(*asked)) == [-item for item in range(16)]

    run(scenario)


def test_new_limits_count_at_once() -> None:
    worker = Worker()

    async def scenario() -> None:
        waiting = queue(worker, max_rows=1)
        items = [asyncio.create_task(waiting.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0.01)
        assert waiting.running == 1
        waiting.limits = Limits(2, 1, 1000)
        await asyncio.sleep(0.01)
        assert waiting.running == 2
        await asyncio.gather(*items)

    run(scenario)


def test_10000_concurrent_items_get_their_own_answers() -> None:
    async def scenario() -> None:
        waiting = queue(Worker(0.001), workers=3, max_rows=7, max_waiting_rows=100_000)
        answers = await asyncio.gather(*(waiting.submit(item, rows=1 + item % 5) for item in range(10_000)))
        assert answers == [-item for item in range(10_000)]

    run(scenario)
