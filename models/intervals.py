"""Intervals of a probability that was estimated."""

import math

Z_95 = 1.959964
"""Quantile of the normal distribution for intervals that hold 95 % of the time."""


def wilson(successes: float, trials: float, z: float = Z_95) -> tuple[float, float]:
    """Interval of a probability, given `trials` > 0: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209-212.

    It stays within 0 and 1 and is right for small numbers too (Brown, Cai, DasGupta, Statistical Science 16, 2001).
    """
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
