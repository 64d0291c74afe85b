"""Bounds of a loss that hold at every moment at once, so that one may look after each request and stop at will.

A normal mixture over the unknown loss turns the likelihood ratio of Wald's test into a martingale, which exceeds
1/alpha at any time with chance alpha at most (Ville; Robbins 1970). That is the mixture sequential probability ratio
test of Johari, Koomen, Pekelis and Walsh, "Always Valid Inference" (arXiv:1512.04922); read as an interval it is the
asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv:2103.06476). With V the
variance of the estimate now and T the variance of the mixture, both ends together hold with chance 1 - alpha at

    estimate +- sqrt(2 V (V + T) / T * ln(sqrt((V + T) / V) / alpha))

Here each end has an error chance of its own, so each takes the one-sided form, of a half-normal mixture:
`ln(1 + sqrt((V + T) / V) / (2 alpha))` in place of the logarithm above.

Both are exact for normal values and good for many; what keeps them for a handful of rare failures is the pretended
observations of `interval`, as docs/referee.md shows by simulation.

All functions take numbers or arrays; arrays are many rollouts at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = float | npt.NDArray[np.float64]

WIDEST_MIXTURE = 0.1
"""A wider mixture makes bold guesses from a handful of requests, where the normal curve is wrong."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Values between 0 and 1, one per request: how many, their sum, the sum of their squares."""

    count: Real
    total: Real
    squares: Real

    @property
    def mean(self) -> Real:
        """Their mean; 0 where there is none."""
        return self.total / np.maximum(self.count, 1)

    @property
    def variance(self) -> Real:
        """Variance of one value."""
        return self.squares / np.maximum(self.count, 1) - self.mean**2

    def padded(self, pairs: int) -> "Arm":
        """As if some zeros and as many ones had been seen besides: no failure yet is not no variance."""
        return Arm(self.count + 2 * pairs, self.total + pairs, self.squares + pairs)

    def complement(self) -> "Arm":
        """One minus each value."""
        return Arm(self.count, self.count - self.total, self.count - 2 * self.total + self.squares)

    def times(self, factor: float) -> "Arm":
        """The same again and again."""
        return Arm(self.count * factor, self.total * factor, self.squares * factor)


def rate(happened: Real, count: Real) -> Arm:
    """Yes or no, once per request."""
    return Arm(count, happened, happened)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Champion and challenger while the traffic was split in one way; without a champion, the challenger by itself.

    The loss is `scale` times what the challenger's mean is above the champion's, or above `baseline`.
    """

    arms: tuple[tuple[Arm | None, Arm], ...]
    baseline: float = 0.0
    scale: float = 1.0

    def times(self, factor: float) -> "Comparison":
        """The same again and again: what is to be seen if all goes on as it did."""
        arms = tuple((champion and champion.times(factor), arm.times(factor)) for champion, arm in self.arms)
        return Comparison(arms, self.baseline, self.scale)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its two ends."""

    estimate: Real
    low: Real
    high: Real


def interval(comparison: Comparison, limit: float, alpha_low: float, alpha_high: float) -> Interval:
    """Bound a loss of which `limit` is what matters.

    The chances that the true loss is ever below the low end or above the high end are alpha_low and alpha_high. The
    variance is that with one zero and one one more. The high end has two of each in its middle too, where that raises
    it (Agresti and Coull 1998): else a first stretch without failures passes a challenger too often.
    """
    scale, mixture = comparison.scale, min(limit / comparison.scale, WIDEST_MIXTURE) ** 2
    value, variance = combine(comparison, lambda arm: arm.mean, pairs=1)
    high_value, high_variance = combine(comparison, lambda arm: np.maximum(arm.mean, arm.padded(2).mean), pairs=2)
    return Interval(
        scale * value,
        scale * (value - half_width(variance, mixture, alpha_low)),
        scale * (high_value + half_width(high_variance, mixture, alpha_high)),
    )


def combine(comparison: Comparison, middle: Callable[[Arm], Real], pairs: int) -> tuple[Real, Real]:
    """Return the loss over all strata and its variance, with `middle` of the challenger's arms.

    A stratum weighs n m / (n + m), the weights of Mantel and Haenszel. They are inverse variances where the strata are
    alike, and unlike variances estimated from rare failures they know nothing of the outcome, so that a stratum which
    was lucky weighs no more. Each stratum is compared with itself, so a base rate that drifts while the share grows
    adds nothing (Simpson's paradox). Without any data the loss is 0 with variance 1.
    """
    weights: Real = 0.0
    losses: Real = 0.0
    variances: Real = 0.0
    for champion, arm in comparison.arms:
        loss, variance, weight = middle(arm), arm.padded(pairs).variance / np.maximum(arm.count, 1), arm.count
        if champion is None:
            loss = loss - comparison.baseline
        else:
            loss = loss - champion.mean
            variance = variance + champion.padded(1).variance / np.maximum(champion.count, 1)
            weight = arm.count * champion.count / np.maximum(arm.count + champion.count, 1)
        weights, losses, variances = weights + weight, losses + weight * loss, variances + weight**2 * variance
    nothing = np.equal(weights, 0)
    weights = np.where(nothing, 1, weights)
    return losses / weights, np.where(nothing, 1, variances) / weights**2


def half_width(variance: Real, mixture: float, alpha: float) -> Real:
    """Distance of one end from the estimate, exceeded at any time with chance alpha at most.

    `variance` is that of the estimate and `mixture` that of the losses for which the bound is tightest.
    """
    spread = (variance + mixture) / variance
    width: Real = np.sqrt(2 * variance * (variance + mixture) / mixture * np.log(1 + np.sqrt(spread) / (2 * alpha)))
    return width
