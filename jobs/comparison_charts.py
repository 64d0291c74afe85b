"""Where the marks of the page's charts are, in percent of a chart's width, so that no text is ever scaled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.comparison import Check, Comparison
from jobs.guard_words import is_ratio

FURTHEST = 4
"""An interval is drawn up to so many times the limit, or as far as its estimate; an arrow says that it goes on."""

BARS = 60
"""At most so many bars, so that each is wide enough on a phone."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a histogram; all in percent."""

    left: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """The latencies of one variant: bars relative to the highest one, and where the percentiles are."""

    version: int
    bars: tuple[Bar, ...]
    p50: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Latencies:
    """The latencies of all variants on one logarithmic axis."""

    distributions: tuple[Distribution, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class IntervalPlot:
    """A guard's interval against its limit; `cut_low` and `cut_high` say that it goes on outside."""

    equal: float
    limit: float
    low: float
    high: float
    loss: float | None
    cut_low: bool
    cut_high: bool


@dataclass(frozen=True, slots=True)
class _LogAxis:
    least: float
    most: float

    def at(self, value: float) -> float:
        share = math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        return round(100 * min(1.0, share), 3)


def latencies(comparison: Comparison) -> Latencies | None:
    """The distributions; None without answers."""
    histograms = {each.version: _positive(each.statistics.latency) for each in comparison.variants}
    bounds = [bound for rows in histograms.values() for low, high, _ in rows for bound in (low, high)]
    if not bounds:
        return None
    axis = _LogAxis(min(bounds) / 1.2, max(bounds) * 1.2)
    numbers = {each.version: each.statistics for each in comparison.variants}
    made = [
        Distribution(
            version,
            _bars(rows, axis),
            *(
                None if value is None else axis.at(value)
                for value in (numbers[version].p50_ms, numbers[version].p99_ms)
            ),
        )
        for version, rows in histograms.items()
    ]
    return Latencies(tuple(made), _ticks(axis))


def _positive(rows: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Buckets that hold something; one that begins at 0 gets a beginning that a logarithm has."""
    return [(low if low > 0 else high / 1.05, high, count) for low, high, count in rows if count > 0 and high > 0]


def _bars(rows: Sequence[tuple[float, float, int]], axis: _LogAxis) -> tuple[Bar, ...]:
    """A bucket counts for each bar that it overlaps, in proportion: the two have different widths."""
    counts = [0.0] * BARS
    width = 100 / BARS
    for low, high, count in rows:
        left, right = axis.at(low), axis.at(high)
        for index in range(int(left / width), min(BARS, math.ceil(right / width))):
            overlap = min(right, (index + 1) * width) - max(left, index * width)
            counts[index] += count * max(0.0, overlap) / max(right - left, 1e-9)
    highest = max(counts, default=0.0)
    # The few slow answers are what matters: a bar is never too low to be seen.
    return tuple(
        Bar(round(index * width, 3), round(width, 3), max(3.0, round(100 * count / highest, 1)))
        for index, count in enumerate(counts)
        if count > 0
    )


def _ticks(axis: _LogAxis) -> tuple[Tick, ...]:
    steps = [base * 10**power for power in range(-2, 6) for base in (1, 2, 5)]
    inside = [step for step in steps if axis.least <= step <= axis.most]
    if len(inside) > 6:
        inside = [step for step in inside if math.isclose(math.log10(step), round(math.log10(step)))]
    return tuple(Tick(axis.at(step), f"{step:g} ms" if step < 1000 else f"{step / 1000:g} s") for step in inside)


def interval_plot(check: Check) -> IntervalPlot | None:
    """A guard's plot; None where there is nothing to draw it from."""
    if check.limit is None or check.low is None or check.high is None:
        return None
    equal = 1.0 if is_ratio(check) else 0.0
    reach = abs(check.limit - equal) or 1.0
    outer = max(FURTHEST * reach, 1.25 * abs((check.loss or 0.0) - equal))
    least = max(min(check.low, equal - reach / 4), equal - outer)
    most = min(max(check.high, equal + 2 * reach), equal + outer)
    margin = 0.04 * (most - least)
    least, most = least - margin, most + margin

    def at(value: float) -> float:
        return round(100 * min(1.0, max(0.0, (value - least) / (most - least))), 3)

    return IntervalPlot(
        equal=at(equal),
        limit=at(check.limit),
        low=at(check.low),
        high=at(check.high),
        loss=None if check.loss is None else at(check.loss),
        cut_low=check.low < least,
        cut_high=check.high > most,
    )
