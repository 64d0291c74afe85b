"""Can a classifier tell the window from the reference? It sees all columns together, where tests see one at a time.

A linear discriminant on the values and their squares, cross-fitted: each fold is scored by one that has not seen it,
and a block is never torn apart. Sources: Lopez-Paz and Oquab, arXiv 1610.06545; Rabanser et al. (*Failing Loudly*),
arXiv 1810.11953; for the standard error of an area under the curve with alike rows, Obuchowski (1997).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from jobs.drift.blocks import Integers, clustered_error
from jobs.drift.frame import Frame, Numbers
from jobs.drift.thresholds import FEW_UNRELATED

FOLDS = 5
FLOORS = (0.65, 0.8)
ALPHAS = (0.01, 0.001)
LEAST_SHARE = 0.9
"""Of the rows on both sides that are of a feature's kind; else what is filled in for the others would tell them apart.
"""

MAX_SQUARED = 64
"""Columns, at most, that also enter as squares."""

EXTREME = 0.99
"""A row of the window is beyond the reference where its score is above this quantile of the reference's."""

_RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Separation:
    """`auc` 0.5: alike; 1: no row could be either. `beyond`: the share of the window that the reference hardly has."""

    auc: float
    error: float
    warning: float
    critical: float
    beyond: float
    most_foreign: Integers  # rows of the window, the most foreign first


def separate(
    reference: Numbers, current: Numbers, reference_blocks: Integers, blocks: Integers, seed: int = 0
) -> Separation | None:
    """Tell rows [rows, columns] apart; None where no column varies."""
    dice = np.random.default_rng(seed)
    before, now = _prepared(reference, current)
    if not before.shape[1]:
        return None
    before_fold, now_fold = _folds(reference_blocks, dice), _folds(blocks, dice)
    above, below, beyond = np.zeros(len(now)), np.zeros(len(before)), np.zeros(len(now))
    for fold in range(FOLDS):
        is_before, is_now = before_fold == fold, now_fold == fold
        if not (is_before.any() and is_now.any()):
            above[is_now], below[is_before] = 0.5, 0.5
            continue
        direction = _discriminant(before[~is_before], now[~is_now])
        first, second = before[is_before] @ direction, now[is_now] @ direction
        above[is_now] = _share_below(first, second)
        below[is_before] = 1 - _share_below(second, first)
        beyond[is_now] = second > np.quantile(first, EXTREME)
    error = float(np.hypot(clustered_error(above, blocks), clustered_error(below, reference_blocks)))
    freedom = max(1, len(np.unique(blocks)) - 1)
    alphas = (ALPHAS[1], ALPHAS[1]) if freedom < FEW_UNRELATED else ALPHAS
    warning, critical = (
        max(floor, 0.5 + float(student.ppf(1 - alpha, freedom)) * error)
        for floor, alpha in zip(FLOORS, alphas, strict=True)
    )
    most_foreign = np.argsort(-above, kind="stable")
    return Separation(float(above.mean()), error, warning, critical, float(beyond.mean()), most_foreign)


def _prepared(reference: Numbers, current: Numbers) -> tuple[Numbers, Numbers]:
    """Columns that vary, in standard deviations of the reference but no further than 5 of them, and their squares."""
    middle, spread = reference.mean(axis=0), reference.std(axis=0)
    spread = np.where(spread > 1e-6, spread, np.maximum(np.abs(middle), 1.0) * 0.01)
    sides = [np.clip((side - middle) / spread, -5, 5) for side in (reference, current)]
    varies = np.ptp(np.concatenate(sides), axis=0) > 0
    sides = [side[:, varies] for side in sides]
    if varies.sum() <= MAX_SQUARED:
        sides = [np.concatenate([side, side**2], axis=1) for side in sides]
    return sides[0], sides[1]


def _folds(blocks: Integers, dice: np.random.Generator) -> Integers:
    numbers, each = np.unique(blocks, return_inverse=True)
    return np.asarray((dice.permutation(len(numbers)) % FOLDS)[each])


def _discriminant(before: Numbers, now: Numbers) -> Numbers:
    """Fisher's, with a little ridge; both sides count alike, however many rows they have."""
    within = np.atleast_2d((np.cov(before.T) + np.cov(now.T)) / 2)
    within += _RIDGE * np.eye(len(within)) * max(1e-9, float(np.trace(within)) / len(within))
    return np.linalg.solve(within, now.mean(axis=0) - before.mean(axis=0))


def _share_below(values: Numbers, than: Numbers) -> Numbers:
    """For each of `than`, the share of `values` below it; ties count half."""
    ordered = np.sort(values)
    left, right = (np.searchsorted(ordered, than, side=side) for side in ("left", "right"))
    return (left + right) / (2 * len(values))


def matrices(reference: Frame, current: Frame) -> tuple[Numbers, Numbers, str] | None:
    """Rows as vectors, and what they are made of: embeddings where both have them, else all numbers there are."""
    pair = _both(reference, current, "embedding")
    if pair is not None:
        return (*pair, "the model's embedding")
    sides = [np.concatenate(parts, axis=1) for parts in zip(*_parts(reference, current), strict=True)]
    return (sides[0], sides[1], "features and probabilities") if sides else None


def _parts(reference: Frame, current: Frame) -> Iterator[tuple[Numbers, Numbers]]:
    for name in (*current.features(), "confidence", "margin", "entropy"):
        if not (reference.has(name) and current.has(name)) or reference.is_text(name) or current.is_text(name):
            continue
        if min(side.of_kind(name).mean() for side in (reference, current)) >= LEAST_SHARE:
            yield _known(reference.numbers(name), current.numbers(name))
    pair = _both(reference, current, "probabilities")
    if pair is not None:
        yield pair


def _both(reference: Frame, current: Frame, name: str) -> tuple[Numbers, Numbers] | None:
    pair = reference.vectors(name), current.vectors(name)
    if pair[0] is None or pair[1] is None or pair[0].shape[1] != pair[1].shape[1]:
        return None
    return _known(pair[0], pair[1])


def _known(reference: Numbers, current: Numbers) -> tuple[Numbers, Numbers]:
    """As columns, with the reference's mean where a value is not known."""
    columns = [np.array(side.reshape(len(side), -1)) for side in (reference, current)]
    finite: npt.NDArray[np.bool_] = np.isfinite(columns[0])
    counts = np.maximum(1, finite.sum(axis=0))
    means = np.where(finite, columns[0], 0).sum(axis=0) / counts
    return tuple(np.where(np.isfinite(side), side, means) for side in columns)  # type: ignore[return-value]
