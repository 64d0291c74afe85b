"""Intervals of shares and of their differences.

Wilson (1927) for one share, Newcombe (1998, method 10) for the difference of two. Counts need not be whole: alike rows
count as the unrelated ones they amount to.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

from models import intervals


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
    """Two-sided interval of a share; of endlessly many rows there is no doubt, of none there is nothing else."""
    if of.rows <= 0:
        return Interval(of.share, 0.0, 1.0)
    if math.isinf(of.rows):
        return Interval(of.share, of.share, of.share)
    return Interval(of.share, *intervals.wilson(of.share * of.rows, of.rows, NormalDist().inv_cdf(1 - alpha / 2)))


def difference(one: Share, other: Share, alpha: float = 0.05) -> Interval:
    """Two-sided interval of one share less the other."""
    first, second = wilson(one, alpha), wilson(other, alpha)
    value = one.share - other.share
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value, low, high)
