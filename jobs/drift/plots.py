"""Where the marks of a drift page's plots are: in percent of a plot, so that no text is ever scaled."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.comparison_charts import Tick
from jobs.drift.evidence import CalibrationBin, Hour, Samples
from models.intervals import wilson

BINS = 32
FEW = 12
"""So many different numbers are shown one by one."""

MAX_BARS = 24
"""Of categories; those that are rarer are summed."""

MAX_MOMENTS = 96
OUTLIERS = 0.005
"""At each end: what lies further out is in the last bin."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares by value on a common axis, as step lines: the `points` of an SVG polyline in a box of 100 by 100."""

    reference: str
    current: str
    ticks: tuple[Tick, ...]
    has_outliers: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A category's shares, and the lengths of its bars in percent of the longest."""

    label: str
    reference: float
    current: float
    reference_length: float
    current_length: float


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity over time: a polyline and the band around it; `low` and `high` are the ends of its axis."""

    points: str
    band: str
    dots: tuple[tuple[float, float], ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy: a place in percent and a size in pixels for each bin."""

    dots: tuple[tuple[float, float, float], ...]


def column_plot(samples: Samples) -> Histogram | tuple[Pair, ...] | None:
    """How a column was distributed, and is; None where either side has no values."""
    reference, current = samples.reference, samples.current
    if samples.is_numeric:
        reference, current = _finite(reference), _finite(current)
    if not len(reference) or not len(current):
        return None
    if samples.is_numeric and len(np.unique(np.concatenate([reference, current]))) > FEW:
        return _histogram(reference, current)
    return pairs(_shares(reference), _shares(current))


def class_pairs(shares: Mapping[str, tuple[float, float]]) -> tuple[Pair, ...]:
    """The shares of the classes."""
    return pairs({k: v[0] for k, v in shares.items()}, {k: v[1] for k, v in shares.items()}, in_order=True)


def pairs(reference: Mapping[Any, float], current: Mapping[Any, float], in_order: bool = False) -> tuple[Pair, ...]:
    """Bars side by side; the rarest ones together where they are too many."""
    largest = {key: max(reference.get(key, 0.0), current.get(key, 0.0)) for key in (*reference, *current)}
    kept = sorted(largest, key=lambda key: largest[key], reverse=True)
    kept, rest = (kept, []) if len(kept) <= MAX_BARS else (kept[: MAX_BARS - 1], kept[MAX_BARS - 1 :])
    ordered = [key for key in largest if key in kept] if in_order else sorted(kept, key=_by_value)
    rows = [(_written(key), reference.get(key, 0.0), current.get(key, 0.0)) for key in ordered]
    if rest:
        rows.append(
            (f"{len(rest)} others", *(sum(side.get(key, 0.0) for key in rest) for side in (reference, current)))
        )
    longest = max((max(before, now) for _, before, now in rows), default=0.0) or 1.0
    return tuple(Pair(label, a, b, round(100 * a / longest, 2), round(100 * b / longest, 2)) for label, a, b in rows)


def line(hours: Sequence[Hour], quantity: str) -> Line | None:
    """`predictions`, `errors` (their share), `confidence` or `accuracy` over time; None where it is never known."""
    known = [(at, value) for at, value in _moments(hours) if _value(value, quantity) is not None]
    if not known:
        return None
    values = [_value(hour, quantity) or 0.0 for _, hour in known]
    bands = [_band(hour, quantity) for _, hour in known]
    ends = [*values, *(end for band in bands if band for end in band)]
    low, high = (0.0, max(ends)) if quantity in ("predictions", "errors") else (min(ends), max(ends))
    if math.isclose(low, high):
        low, high = (low - 0.05, high + 0.05) if quantity in ("confidence", "accuracy") else (0.0, max(1.0, 2 * high))

    def up(value: float) -> float:
        return round(95 - 90 * (value - low) / (high - low), 2)

    dots = tuple((at, up(value)) for (at, _), value in zip(known, values, strict=True))
    above = [(at, up(band[1])) for (at, _), band in zip(known, bands, strict=True) if band]
    below = [(at, up(band[0])) for (at, _), band in zip(known, bands, strict=True) if band]
    return Line(_points(dots), _points([*above, *reversed(below)]), dots, low, high)


def reliability(bins: Sequence[CalibrationBin]) -> Reliability:
    """Dots whose area stands for the number of predictions."""
    most = max((each.rows for each in bins), default=1) or 1
    return Reliability(
        tuple(
            (
                round(100 * each.confidence, 2),
                round(100 - 100 * each.accuracy, 2),
                round(2 + 5 * (each.rows / most) ** 0.5, 1),
            )
            for each in bins
        )
    )


def span(hours: Sequence[Hour]) -> tuple[Tick, ...]:
    """The ends of the time axis."""
    if not hours:
        return ()
    return Tick(0.0, f"{hours[0].start:%Y-%m-%d %H:%M}"), Tick(
        100.0, f"{hours[-1].start + timedelta(hours=1):%Y-%m-%d %H:%M}"
    )


def _moments(hours: Sequence[Hour]) -> list[tuple[float, Hour]]:
    """Hours with their places; several as one where they are too many."""
    if not hours:
        return []
    ordered = sorted(hours, key=lambda hour: hour.start)
    step = math.ceil(len(ordered) / MAX_MOMENTS)
    merged = [_sum(ordered[start : start + step]) for start in range(0, len(ordered), step)]
    whole = (ordered[-1].start - ordered[0].start).total_seconds() + 3600
    places = [((each.start - ordered[0].start).total_seconds() + 1800 * step) / whole for each in merged]
    return [(round(100 * min(place, 1.0), 2), each) for place, each in zip(places, merged, strict=True)]


def _sum(hours: Sequence[Hour]) -> Hour:
    return Hour(
        hours[0].start,
        sum(hour.predictions for hour in hours),
        sum(hour.errors for hour in hours),
        _mean([(hour.confidence, hour.predictions) for hour in hours]),
        _mean([(hour.accuracy, hour.labelled) for hour in hours]),
        sum(hour.labelled for hour in hours),
    )


def _mean(weighted: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in weighted if value is not None and weight > 0]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _value(hour: Hour, quantity: str) -> float | None:
    if quantity == "errors":
        return hour.errors / hour.predictions if hour.predictions else None
    found: float | None = getattr(hour, quantity)
    return found


def _band(hour: Hour, quantity: str) -> tuple[float, float] | None:
    if quantity != "accuracy" or hour.accuracy is None or not hour.labelled:
        return None
    return wilson(round(hour.accuracy * hour.labelled), hour.labelled)


def _histogram(reference: npt.NDArray[Any], current: npt.NDArray[Any]) -> Histogram:
    ends = [np.quantile(side, [OUTLIERS, 1 - OUTLIERS]) for side in (reference, current)]
    low, high = float(min(end[0] for end in ends)), float(max(end[1] for end in ends))
    if low == high:
        low, high = float(min(reference.min(), current.min())), float(max(reference.max(), current.max()))
    edges = np.linspace(low, high, BINS + 1)
    sides = [np.histogram(np.clip(side, low, high), edges)[0] / len(side) for side in (reference, current)]
    highest = float(max(side.max() for side in sides)) or 1.0
    cut = any(bool((side < low).any() or (side > high).any()) for side in (reference, current))
    return Histogram(_steps(sides[0] / highest), _steps(sides[1] / highest), _ticks(low, high), cut)


def _steps(heights: npt.NDArray[np.float64]) -> str:
    """A line that goes up and down in steps, beginning and ending on the ground."""
    width = 100 / len(heights)
    corners = [(0.0, 100.0)]
    for index, height in enumerate(heights):
        corners += [(index * width, 100 - 96 * height), ((index + 1) * width, 100 - 96 * height)]
    return _points([*corners, (100.0, 100.0)])


def _points(corners: Sequence[tuple[float, float]]) -> str:
    return ",".join(f"{x:.4g},{y:.4g}" for x, y in corners)


def _ticks(low: float, high: float) -> tuple[Tick, ...]:
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first = math.ceil(low / step)
    steps = [index * step for index in range(first, math.floor(high / step) + 1)]
    return tuple(Tick(round(100 * (value - low) / (high - low), 2), f"{value:.6g}") for value in steps)


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    numbers = values.astype(np.float64)
    return numbers[np.isfinite(numbers)]


def _shares(values: npt.NDArray[Any]) -> dict[Any, float]:
    counts = Counter(values.tolist())
    return {value: count / len(values) for value, count in counts.items()}


def _by_value(key: Any) -> tuple[int, Any]:
    return (0, key) if isinstance(key, int | float) else (1, str(key))


def _written(key: Any) -> str:
    return f"{key:.6g}" if isinstance(key, int | float) else str(key)
