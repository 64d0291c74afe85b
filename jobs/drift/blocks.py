"""Which predictions belong together, and to how many unrelated ones they amount.

Traffic comes in bursts: a client sends twenty pictures of the same scene. Twenty alike rows tell no more than one, and
a test that takes them for twenty raises false alarms. A block is what one client sent without an hour's pause, in
parts of at most `longest_block` rows; the design effect (Kish 1965) of a column is the variance of its shares with
these blocks over that of unrelated rows, averaged over the cells of the column as Rao and Scott (1981) do for
chi-square. It is itself an estimate, so what is beyond 1 is taken two standard errors larger.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.drift.frame import Column, Frame, Numbers

LONGEST_BLOCK = 100
"""Rows of a block, at the least allowed for: longer runs of alike inputs by one client are taken for several."""

CELLS = 8
"""Cells that a column of numbers is cut into to see whether rows of a block are alike."""

SEGMENTS = 8
"""Blocks are compared with those of about the same time, so that a change within the window is not held for bursts."""

PAUSE_US = 3_600_000_000
"""After an hour without a request, a client begins another block."""

_LEAST_BLOCKS = 5
"""In a segment."""

Integers = npt.NDArray[np.int64]


def blocks_of(frame: Frame) -> Integers:
    """Number of each row's block; blocks are numbered in the order of their first rows."""
    times = frame.microseconds()
    clients = _codes(frame.texts("key_id")) if frame.has("key_id") else np.zeros(frame.rows, dtype=np.int64)
    if frame.rows and not clients.any() and not np.ptp(times):
        return np.arange(frame.rows)  # nothing is known of their origin: a validation set
    order = np.lexsort((times, clients))
    is_new = np.ones(frame.rows, dtype=bool)
    is_new[1:] = (np.diff(clients[order]) != 0) | (np.diff(times[order]) > PAUSE_US)
    starts = np.flatnonzero(is_new)
    place = np.arange(frame.rows) - np.repeat(starts, np.diff(np.append(starts, frame.rows)))
    is_new |= place % longest_block(frame.rows) == 0
    blocks = np.empty(frame.rows, dtype=np.int64)
    blocks[order] = np.cumsum(is_new) - 1
    return _renumbered(blocks, times)


def longest_block(rows: int) -> int:
    """A hundredth of the window, and at least LONGEST_BLOCK rows."""
    return max(LONGEST_BLOCK, rows // 100)


def _codes(values: npt.NDArray[Any]) -> Integers:
    return np.unique(np.array([value or "" for value in values], dtype=str), return_inverse=True)[1].astype(np.int64)


def _renumbered(blocks: Integers, times: Integers) -> Integers:
    order = np.argsort(times, kind="stable")
    first = np.unique(blocks[order], return_index=True)[1]
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return np.asarray(numbers[blocks])


def design_effect(column: Column, blocks: Integers) -> float:
    """How many rows of the window tell as much as one; at least 1. `blocks` are of all rows of the window."""
    return effect_of(_cells(column), blocks[column.rows])


def effect_of(cells: Integers, blocks: Integers) -> float:
    """The same of rows that are cut into cells already."""
    counts = _table(blocks, cells)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2 or counts.shape[1] < 2:
        return 1.0
    seen = counts.sum(axis=0) > 0
    counts = counts[:, seen]
    clustered, unrelated = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for segment in np.array_split(np.arange(len(counts)), max(1, min(SEGMENTS, len(counts) // _LEAST_BLOCKS))):
        among, expected = _variances(counts[segment])
        clustered += among
        unrelated += expected
    shares = counts.sum(axis=0) / counts.sum()
    expected_sum = float((unrelated / shares).sum())
    if not expected_sum:
        return 1.0
    effect = float((clustered / shares).sum()) / expected_sum
    doubt = 1 + 2 * math.sqrt(2 / (len(counts) - 1))  # of a variance that few blocks tell of
    return max(1.0, effect, 1 + (effect - 1) * doubt)


def _variances(counts: Numbers) -> tuple[Numbers, Numbers]:
    """Of the cells' counts: as the blocks differ, and as if rows were unrelated."""
    sizes = counts.sum(axis=1, keepdims=True)
    shares = counts.sum(axis=0) / sizes.sum()
    residuals = counts - sizes * shares
    correction = len(counts) / max(1, len(counts) - 1)
    return correction * (residuals**2).sum(axis=0), sizes.sum() * shares * (1 - shares)


def _table(blocks: Integers, cells: Integers) -> Numbers:
    width = int(cells.max()) + 1
    flat = np.bincount(blocks * width + cells, minlength=(int(blocks.max()) + 1) * width)
    return flat.reshape(-1, width).astype(np.float64)


def _cells(column: Column) -> Integers:
    if not column.is_numeric:
        return _codes(column.current)
    edges = np.unique(np.quantile(column.current, np.linspace(0, 1, CELLS + 1)[1:-1]))
    return np.searchsorted(edges, column.current, side="right")


def clustered_error(values: Numbers, blocks: Integers, weights: Numbers | None = None) -> float:
    """Standard error of the (weighted) mean of values whose blocks are alike in themselves."""
    if len(values) < 2:
        return float("inf")
    each = np.ones(len(values)) if weights is None else weights
    residuals = np.bincount(blocks, weights=each * (values - np.average(values, weights=each)))
    count = len(np.unique(blocks))
    return float(np.sqrt(count / max(1, count - 1) * (residuals**2).sum()) / each.sum())
