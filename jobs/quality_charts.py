"""Where the marks of the page's charts are, in percent of a chart's width and height (from its top)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobs.comparison_charts import Tick
from jobs.number_words import percent
from jobs.periods import LENGTHS, By
from jobs.quality import Period, Quality, VariantQuality
from jobs.reliability import Calibration

MAX_TICKS = 5
"""Dates below a chart: as many fit on a phone."""

MAX_DOTS = 60
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)


@dataclass(frozen=True, slots=True)
class Point:
    """A mark, with the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """One version in one role: runs of periods without a gap, as SVG points of the line and of the band around it."""

    of: VariantQuality
    runs: tuple[tuple[str, str], ...]
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Accuracy over time, all on one pair of axes."""

    lines: tuple[Line, ...]
    dates: tuple[Tick, ...]
    shares: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Reliable:
    """A bin of the reliability diagram; `share` is how many of the predictions it holds, relative to the fullest."""

    point: Point
    left: float
    width: float
    height: float


def timeline(quality: Quality) -> Timeline | None:
    """None where there are fewer than two periods: that is no line."""
    periods = [period for each in quality.variants for period in each.periods]
    starts = sorted({period.start for period in periods})
    if len(starts) < 2:
        return None
    length = LENGTHS[quality.by]
    first, span = starts[0], starts[-1] + length - starts[0]
    least = _floor(periods)

    def across(time: datetime) -> float:
        return round(100 * (time - first) / span, 3)

    def down(share: float) -> float:
        return round(100 * (1 - max(0.0, share - least) / (1 - least)), 3)

    def point(period: Period) -> Point:
        accuracy = period.accuracy
        return Point(across(period.start + length / 2), down(accuracy.value), down(accuracy.low), down(accuracy.high))

    lines = []
    for each in quality.variants:
        runs = [[point(period) for period in run] for run in _runs(each.periods, length)]
        points = tuple(mark for run in runs for mark in run)
        if points:
            shown = points if len(points) <= MAX_DOTS else tuple(run[0] for run in runs if len(run) == 1)
            lines.append(Line(each, tuple(_traced(run) for run in runs if len(run) > 1), shown))
    dates = tuple(Tick(across(start + length / 2), _date(start, quality.by)) for start in _spread(starts))
    return Timeline(tuple(lines), dates, tuple(Tick(down(share), percent(share)) for share in _shares(least)))


def reliability(of: Calibration) -> tuple[Reliable, ...]:
    """The bins: confidence to the right, accuracy upwards."""
    most = max(each.weight for each in of.bins)
    return tuple(
        Reliable(
            Point(
                round(100 * each.confidence, 3),
                round(100 * (1 - each.accuracy.value), 3),
                round(100 * (1 - each.accuracy.low), 3),
                round(100 * (1 - each.accuracy.high), 3),
            ),
            left=round(100 * each.low, 3),
            width=round(100 * (each.high - each.low), 3),
            height=max(2.0, round(100 * each.weight / most, 3)),
        )
        for each in of.bins
    )


def _floor(periods: Sequence[Period]) -> float:
    """Where the axis begins: below the intervals, but not far below the estimates for the few labels of one period."""
    lowest = min(period.accuracy.value for period in periods)
    least = max(lowest - 0.1, min(period.accuracy.low for period in periods))
    return max(0.0, min(0.95, math.floor(20 * least) / 20))


def _runs(periods: Sequence[Period], length: timedelta) -> list[list[Period]]:
    runs: list[list[Period]] = []
    for period in periods:
        if runs and runs[-1][-1].start + length == period.start:
            runs[-1].append(period)
        else:
            runs.append([period])
    return runs


def _traced(run: Sequence[Point]) -> tuple[str, str]:
    line = [(mark.x, mark.y) for mark in run]
    band = [(mark.x, mark.high) for mark in run] + [(mark.x, mark.low) for mark in reversed(run)]
    return _text(line), _text(band)


def _text(points: Sequence[tuple[float, float]]) -> str:
    return ",".join(f"{x:g},{y:g}" for x, y in points)


def _spread(starts: Sequence[datetime]) -> list[datetime]:
    """A few of them, about evenly."""
    step = max(1, math.ceil((len(starts) - 1) / (MAX_TICKS - 1)))
    return list(starts[::step])


def _date(start: datetime, by: By) -> str:
    return f"{start.day} {start:%b %H:%M}" if by == "hour" else f"{start.day} {start:%b}"


def _shares(least: float) -> list[float]:
    step = next((step for step in _STEPS if (1 - least) / step <= MAX_TICKS), 0.25)
    first = math.ceil(round(least / step, 6))
    return [number * step for number in range(first, round(1 / step) + 1)]
