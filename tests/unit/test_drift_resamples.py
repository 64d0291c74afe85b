"""Resamples of the reference: shared by columns, held in bounded memory."""

import tracemalloc

import numpy as np

from jobs.drift.distances import cut
from jobs.drift.frame import Column
from jobs.drift.thresholds import MOST_KEPT, Drawn, Resamples, thresholds

ROWS = 3000


def drawn(number: int, rows: int) -> Drawn:
    values = np.random.default_rng(number).normal(size=rows)
    return Drawn(f"c{number}", cut(Column(f"c{number}", True, values, values, np.arange(rows))), rows, 200.0)


def peak(columns: list[Drawn]) -> int:
    tracemalloc.start()
    thresholds(columns)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_columns_with_holes_of_their_own_do_not_fill_the_memory() -> None:
    columns = [drawn(number, ROWS - number) for number in range(20)]
    one = 300 * ROWS * 4
    assert peak(columns) < peak(columns[:1]) + 2 * (MOST_KEPT + 1) * one


def test_what_is_drawn_again_is_the_same() -> None:
    resamples = Resamples((0, 1), 10)
    first = resamples.of(100, 50)
    assert resamples.of(100, 50) is first
    for length in range(200, 200 + MOST_KEPT):
        resamples.of(length, 50)
    again = resamples.of(100, 50)
    assert again is not first
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(Resamples((0, 0), 10).of(100, 50), first)
