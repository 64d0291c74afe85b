"""How far two distributions are apart: Evidently's statistics, computed for many resamples at once.

The same numbers as evidently.legacy.calculations.stattests (0.7.23): `psi`, `jensenshannon`, `wasserstein` (normed by
the reference's standard deviation). A test holds them against each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.drift.frame import Column, Numbers

FEW_VALUES = 20
"""Numbers that take no more values than these in the reference are counted value by value."""

GRID = 256
"""Points of the reference at which resampled distribution functions are compared."""

_LEAST_SD = 0.001


@dataclass(frozen=True, slots=True)
class Cells:
    """A column cut into cells.

    `order` sorts the reference; `ends` are where the cells end in it. `grid` are some of its values, told by how many
    are not above them, and `widths` how far each is from the next, in standard deviations (numbers only).
    """

    order: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    grid: npt.NDArray[np.int64]
    widths: Numbers
    reference: Numbers  # shares
    current: Numbers


def cut(column: Column) -> Cells:
    """Cut a column into the cells that Evidently would."""
    order = np.argsort(column.reference, kind="stable")
    ordered = column.reference[order]
    if column.is_numeric and len(np.unique(ordered)) > FEW_VALUES:
        combined = np.concatenate([column.reference, column.current])
        edges = np.histogram_bin_edges(combined, bins="sturges")
        reference = np.histogram(column.reference, edges)[0]
        current = np.histogram(column.current, edges)[0]
    else:
        values = np.unique(np.concatenate([column.reference, column.current]))
        reference, current = _counts(column.reference, values), _counts(column.current, values)
    grid, widths = _grid(ordered) if column.is_numeric else (np.zeros(0, dtype=np.int64), np.zeros(0))
    return Cells(
        order, np.cumsum(reference), grid, widths, reference / len(column.reference), current / len(column.current)
    )


def _counts(values: npt.NDArray[Any], known: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.bincount(np.searchsorted(known, values), minlength=len(known))


def _grid(ordered: Numbers) -> tuple[npt.NDArray[np.int64], Numbers]:
    values = np.unique(ordered)
    if len(values) > GRID:  # half of them where the rows are, half evenly over long tails
        dense = np.linspace(0, len(values) - 1, GRID // 2).round().astype(np.int64)
        even = np.searchsorted(values, np.linspace(values[0], values[-1], GRID // 2))
        some = values[np.unique(np.concatenate([dense, even]))]
    else:
        some = values
    return np.searchsorted(ordered, some[:-1], side="right"), np.diff(some) / _spread(ordered)


def _spread(values: Numbers) -> float:
    return max(float(np.std(values)), _LEAST_SD)


def psi(reference: Numbers, current: Numbers) -> Numbers:
    """Population stability index of shares [..., cells]; empty cells are given a little, as Evidently does."""
    before, now = _fill(reference), _fill(current)
    return np.asarray(np.sum((before - now) * np.log(before / now), axis=-1))


def _fill(shares: Numbers) -> Numbers:
    least = np.where(shares > 0, shares, np.inf).min(axis=-1, keepdims=True)
    return np.asarray(np.where(shares > 0, shares, np.where(least <= 1e-4, least / 1e6, 1e-4)))


def jensenshannon(reference: Numbers, current: Numbers) -> Numbers:
    """Jensen-Shannon distance (the root of the divergence, in nats) of shares [..., cells]."""
    middle = (reference + current) / 2
    divergence = (_relative_entropy(reference, middle) + _relative_entropy(current, middle)) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0)))


def _relative_entropy(shares: Numbers, middle: Numbers) -> Numbers:
    ratio = np.divide(shares, middle, out=np.ones_like(shares), where=shares > 0)
    return np.asarray(np.sum(shares * np.log(ratio), axis=-1))


def wasserstein(reference: Numbers, current: Numbers) -> float:
    """Area between the distribution functions, in standard deviations of the reference."""
    values = np.sort(np.concatenate([reference, current]))
    before = np.searchsorted(np.sort(reference), values[:-1], side="right") / len(reference)
    now = np.searchsorted(np.sort(current), values[:-1], side="right") / len(current)
    return float(np.sum(np.abs(before - now) * np.diff(values))) / _spread(reference)


def effects(column: Column, cells: Cells) -> dict[str, float]:
    """All effect sizes of a column."""
    found = {
        "psi": float(psi(cells.reference, cells.current)),
        "jensenshannon": float(jensenshannon(cells.reference, cells.current)),
    }
    if column.is_numeric:
        found["wasserstein"] = wasserstein(column.reference, column.current)
    return found


def resampled_effects(cells: Cells, before: Numbers, now: Numbers) -> dict[str, Numbers]:
    """Effect sizes [resamples] between two resamplings: how often each row of the reference was drawn."""
    summed = [np.cumsum(drawn[:, cells.order], axis=1) for drawn in (before, now)]
    totals = [each[:, -1:] for each in summed]
    shares = [_cells_of(each, cells.ends) / total for each, total in zip(summed, totals, strict=True)]
    found = {"psi": psi(*shares), "jensenshannon": jensenshannon(*shares)}
    if cells.grid.size:
        first, second = (each[:, cells.grid - 1] / total for each, total in zip(summed, totals, strict=True))
        found["wasserstein"] = np.abs(first - second) @ cells.widths
    return found


def _cells_of(summed: Numbers, ends: npt.NDArray[np.int64]) -> Numbers:
    padded = np.concatenate([np.zeros((len(summed), 1)), summed], axis=1)
    return np.asarray(np.diff(padded[:, ends], axis=1, prepend=0.0))
