"""Shares that are estimated from labels that stand for one prediction or for many.

The estimate is Hájek's: right ones over all, each counted as often as it stands for a prediction. The interval is
Wilson's at the number of labels of equal weight that would say as much (Korn and Graubard, Survey Methodology 24, 1998;
Franco, Little, Louis, Slud, J. Survey Statistics and Methodology 7, 2019): that of Kish, (sum w)^2 / sum w^2, or fewer
where the wrong ones have the large weights. Where all weights are one it is the number of labels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.intervals import wilson

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Share:
    """A share of predictions, and the interval that holds it with 95 %."""

    value: float
    low: float
    high: float


def share(is_right: Flags, weight: Floats) -> Share | None:
    """The share of right ones; None where there is none at all."""
    total = weight.sum()
    if not total:
        return None
    value = float(weight[is_right].sum() / total)
    count = effective_count(is_right, weight, value)
    return Share(value, *wilson(value * count, count))


def kish(weight: Floats) -> float:
    """How many rows of equal weight rows of these weights amount to, whatever they say; there is at least one."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def effective_count(is_right: Flags, weight: Floats, value: float) -> float:
    """How many labels of equal weight would say as much."""
    by_weight = kish(weight)
    variance = float((weight**2 * (is_right - value) ** 2).sum() / weight.sum() ** 2)
    return by_weight if variance <= 0 else min(by_weight, value * (1 - value) / variance)
