"""Intervals of shares and of their differences.

Wilson (1927) for one share, Newcombe (1998, method 10) for the difference of two. Counts need not be whole: alike rows
count as the unrelated ones they amount to.
"""

import math
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """An estimate and what it lies between."""

    value: float
    low: float
    high: float


class Share(NamedTuple):
    """`share` of so many unrelated `rows`."""

    share: float
    rows: float


def wilson(of: Share, alpha: float = 0.05) -> Interval:
    """Two-sided interval of a share."""
    z = NormalDist().inv_cdf(1 - alpha / 2)
    if of.rows <= 0:
        return Interval(of.share, 0.0, 1.0)
    middle = of.share + z * z / (2 * of.rows)
    half = z * math.sqrt(of.share * (1 - of.share) / of.rows + z * z / (4 * of.rows**2))
    scale = 1 + z * z / of.rows
    return Interval(of.share, max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale))


def difference(one: Share, other: Share, alpha: float = 0.05) -> Interval:
    """Two-sided interval of one share less the other."""
    first, second = wilson(one, alpha), wilson(other, alpha)
    value = one.share - other.share
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, low, high)
