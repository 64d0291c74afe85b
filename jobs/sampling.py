"""Which predictions to label, drawn so that what is learnt of them holds for all.

Each has a known chance of being drawn, and a drawn one stands for 1 / chance of them (Horvitz and Thompson, J. Am.
Stat. Assoc. 47, 1952). Uncertain ones may have a larger chance: they are wrong more often, so they say more, and being
counted less each, they do not bend the estimate. The draw is systematic, in random order, with chances proportional to
size (Madow 1949; Hartley and Rao 1962): of exactly the wanted number, and none is drawn twice.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt

from jobs.estimates import Floats

By = Literal["random", "uncertainty"]

FLOOR = 0.1
"""Added to the uncertainty (0 to 1): the surest one has a chance too, at most 11 times smaller than any other."""


def sizes(margin: Floats, by: By) -> Floats:
    """What the chances are proportional to. A prediction whose margin is not known (NaN) counts as uncertain."""
    if by == "random":
        return np.ones(len(margin))
    return FLOOR + np.clip(1 - np.nan_to_num(margin, nan=0.0), 0, 1)


def chances(size: Floats, count: int) -> Floats:
    """Chance of each of being among `count` drawn ones: in proportion to its size, but never above 1."""
    if count >= len(size):
        return np.ones(len(size))
    certain = np.zeros(len(size), dtype=bool)
    while True:
        left = count - int(certain.sum())
        chance = np.where(certain, 1.0, left * size / size[~certain].sum())
        above = ~certain & (chance >= 1)
        if not above.any():
            return chance
        certain |= above


def draw(chance: Floats, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of the drawn ones, in random order; there are as many as the chances add up to (a whole number)."""
    order = random.permutation(len(chance))
    ends = np.cumsum(chance[order])
    if len(ends):
        ends *= round(ends[-1]) / ends[-1]
    start = random.random()
    marks = np.floor(ends - start)
    return order[np.diff(marks, prepend=np.floor(-start)) > 0]
