"""How much of an effect chance alone makes: resamples of the reference, of as many unrelated rows as the window has.

Both sides are drawn, so a small reference makes the thresholds wide. All columns and methods are judged together: a
threshold is what the largest of all standardised effects exceeds in a share `alpha` of the resamples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.drift.distances import Cells, resampled_effects
from jobs.drift.frame import Numbers

RESAMPLES = 300
WARNING_ALPHA, CRITICAL_ALPHA = 0.01, 0.001
FLOORS: Mapping[str, tuple[float, float]] = {
    "psi": (0.1, 0.25),
    "jensenshannon": (0.1, 0.2),
    "wasserstein": (0.25, 0.5),
}
"""What is too little to warn of, or to be critical, however certain: about 0.3 and 0.5 standard deviations."""

FEW_UNRELATED = 30
"""Where a window amounts to fewer rows, how much is an uncertain estimate itself; then a warning needs what is critical
elsewhere."""

MOST_KEPT = 4
"""Sets of resamples held at once: one takes 12 MB for a reference of 10,000 rows, and every column with holes of its
own needs another. One that is needed again is drawn again, the same."""

_STEP = 1.15
"""Design effects are rounded up to powers of it, so that few sets of resamples do for all columns."""

Key = tuple[str, str]
"""Column and method."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a score must reach; `chance` is what chance alone reaches in a warning's share of windows."""

    warning: float
    critical: float
    chance: float


@dataclass(frozen=True, slots=True)
class Drawn:
    """One column to be resampled: its cells, and the unrelated rows that each side amounts to."""

    name: str
    cells: Cells
    reference_rows: float
    current_rows: float


def thresholds(columns: Sequence[Drawn], seed: int = 0, resamples: int = RESAMPLES) -> dict[Key, Threshold]:
    """Thresholds of every column and method."""
    null = dict(_effects(columns, seed, resamples))
    scales = {key: float(np.quantile(values, 0.95)) for key, values in null.items()}
    standardised = [values / scales[key] for key, values in null.items() if scales[key] > 0]
    largest = np.max(standardised, axis=0) if standardised else np.zeros(resamples)
    warning, critical = upper_quantile(largest, WARNING_ALPHA), upper_quantile(largest, CRITICAL_ALPHA)
    sparse = {column.name for column in columns if column.current_rows < FEW_UNRELATED}
    return {
        key: _threshold(key[1], (critical if key[0] in sparse else warning) * scale, critical * scale)
        for key, scale in scales.items()
    }


def _threshold(method: str, warning: float, critical: float) -> Threshold:
    low, high = FLOORS[method]
    return Threshold(max(low, warning), max(high, critical), warning)


def upper_quantile(values: Numbers, alpha: float) -> float:
    """What is exceeded with chance alpha; beyond what was seen, along an exponential tail through 95 and 99 %."""
    if alpha * len(values) >= 3:
        return float(np.quantile(values, 1 - alpha))
    at_5, at_1 = np.quantile(values, (0.95, 0.99))
    return float(at_1 + (at_1 - at_5) * math.log(0.01 / alpha) / math.log(5))


def _effects(columns: Iterable[Drawn], seed: int, resamples: int) -> Iterable[tuple[Key, Numbers]]:
    befores, nows = (Resamples((seed, side), resamples) for side in (0, 1))
    for column in columns:
        length = len(column.cells.order)
        before, now = befores.of(length, column.reference_rows), nows.of(length, column.current_rows)
        for method, values in resampled_effects(column.cells, before, now).items():
            yield (column.name, method), values


class Resamples:
    """Columns share their resamples, so that columns that go together also do by chance."""

    def __init__(self, seed: Sequence[int], resamples: int) -> None:
        self._seed = seed
        self._resamples = resamples
        self._drawn: dict[tuple[int, int], Numbers] = {}

    def of(self, length: int, rows: float) -> Numbers:
        """How often each of `length` rows is among so many that are drawn, [resamples, length]."""
        key = length, _rounded(rows)
        drawn = self._drawn.pop(key, None)
        if drawn is None:
            drawn = _draw(*key, np.random.default_rng([*self._seed, *key]), self._resamples)
        self._drawn[key] = drawn  # the last to go
        if len(self._drawn) > MOST_KEPT:
            del self._drawn[next(iter(self._drawn))]
        return drawn


def _rounded(rows: float) -> int:
    """Down, to a power of `_STEP`."""
    return max(2, int(_STEP ** math.floor(math.log(max(rows, 2.0)) / math.log(_STEP))))


def _draw(length: int, rows: int, dice: np.random.Generator, resamples: int) -> Numbers:
    """How often each of `length` rows is among `rows` that are drawn, [resamples, length]."""
    picked = dice.integers(length, size=(resamples, rows)) + length * np.arange(resamples)[:, None]
    counts = np.bincount(picked.ravel(), minlength=resamples * length)
    return counts.reshape(resamples, length).astype(np.float32)
