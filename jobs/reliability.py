"""Whether a model is right as often as it says: confidence against accuracy.

The expected calibration error (ECE) is the mean distance between the two over bins of equal width, weighted by how many
predictions are in each (Naeini, Cooper, Hauskrecht, AAAI 2015; Guo et al., ICML 2017, arXiv:1706.04599). From few
labels it is never 0, even for a model that is calibrated: `by_chance` is what such a one would show on average, the
right ones in each bin taken as normal around its confidences.
"""

import math
from dataclasses import dataclass

import numpy as np

from jobs.confidence_bins import BINS, bins_of
from jobs.confusion import Answers
from jobs.estimates import Share, share


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions with a confidence above `low`, up to `high`."""

    low: float
    high: float
    labels: int
    weight: float
    confidence: float
    accuracy: Share


@dataclass(frozen=True, slots=True)
class Calibration:
    """The bins that hold something, and what they come to."""

    ece: float
    by_chance: float
    confidence: float
    bins: tuple[Bin, ...]


def calibration(of: Answers) -> Calibration | None:
    """Of those that have a confidence; None where none has."""
    of = of.where(np.isfinite(of.confidence))
    total = float(of.weight.sum())
    if not total:
        return None
    index = bins_of(of.confidence)
    bins = tuple(_bin(of.where(index == number), number) for number in np.unique(index).tolist())
    spread = [_spread(of.where(index == number)) for number in np.unique(index).tolist()]
    return Calibration(
        ece=sum(each.weight * abs(each.accuracy.value - each.confidence) for each in bins) / total,
        by_chance=math.sqrt(2 / math.pi) * sum(spread) / total,
        confidence=float(np.average(of.confidence, weights=of.weight)),
        bins=bins,
    )


def _bin(of: Answers, number: int) -> Bin:
    accuracy = share(of.is_right, of.weight)
    assert accuracy is not None
    confidence = float(np.average(of.confidence, weights=of.weight))
    weight = float(of.weight.sum())
    return Bin(number / BINS, (number + 1) / BINS, len(of.truth), weight, confidence, accuracy)


def _spread(of: Answers) -> float:
    """Standard deviation of the weight of the right ones, if confidence is the chance of being right."""
    chance = np.clip(of.confidence, 0, 1)
    return math.sqrt(float((of.weight**2 * chance * (1 - chance)).sum()))
