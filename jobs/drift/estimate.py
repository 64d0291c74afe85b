"""Accuracy without labels: what the confidences would mean if they meant what they did in the reference.

Calibrated by Platt's method on the reference and averaged over the window, as CBPE does (Bialek et al., arXiv
2401.08348). That holds while the window lies where the reference does. Pictures with black and white exchanged keep
the confidence of .94 and are recognised with .002, so the estimate is withheld where a classifier tells the two apart.
"""

from typing import Final

import numpy as np
from scipy.stats import t as student

from jobs.drift.blocks import Integers, clustered_error
from jobs.drift.change import Comparison
from jobs.drift.frame import Numbers
from jobs.drift.labelled import LEAST_LABELLED, Labelled
from jobs.drift.two_sample import Separation
from jobs.drift.words import number
from jobs.number_words import percent
from models.drift_report import Finding, Severity

MOST_AUC: Final = 0.8
MOST_BEYOND: Final = 0.1
"""Share of the window beyond what only 1 % of the reference is: there, too little of the reference speaks for it."""

LOSS: Final = (0.02, 0.05)
ALPHAS: Final = (0.01, 0.001)
"""One-sided."""

RESAMPLES = 100
MAX_ROWS = 5000
_STEPS = 15
_RIDGE = 1e-3


def estimate_harm(between: Comparison, before: Labelled | None, labels: int = 0) -> Finding:
    """An estimate of the accuracy, or why there is none; `labels` are too few to count."""
    lacking = _lacking(labels)
    if before is None or before.confidence is None or not between.current.has("confidence"):
        return _unknown(f"{lacking}, and the reference has no labels to estimate the accuracy from")
    foreign = _foreign(between.separation)
    if foreign is not None:
        return _unknown(
            f"whether the model is still right cannot be told without labels: {foreign}, and {lacking}. Send feedback,"
            " or draw a sample to label"
        )
    confidence = between.current.numbers("confidence")
    known = np.isfinite(confidence)
    if not known.any():
        return _unknown("the window has no confidences to estimate the accuracy from")
    return _estimated(before, confidence[known], between, known)


def _lacking(labels: int) -> str:
    if not labels:
        return "there is no feedback"
    has = "prediction is" if labels == 1 else "predictions are"
    return f"only {labels} {has} labelled, at least {LEAST_LABELLED} are needed"


def _foreign(separation: Separation | None) -> str | None:
    """Why the window is out of the reference's support; None where it is within."""
    if separation is None:
        return None
    if separation.auc >= MOST_AUC:
        told_apart = f"a classifier tells them apart, AUC {number(separation.auc)}"
        return f"the window is out of what the reference covers ({told_apart})"
    if separation.beyond >= MOST_BEYOND:
        return f"{percent(separation.beyond)} of the window is of a kind that the reference hardly has"
    return None


def _unknown(words: str) -> Finding:
    return Finding(column="label", method="estimated accuracy", severity="unknown", words=words)


def _estimated(before: Labelled, confidence: Numbers, between: Comparison, known: Numbers) -> Finding:
    was, now, error = _with_error(before, confidence, between, known)
    lost = was - now
    freedom = max(1, len(np.unique(between.blocks)) - 1)
    quantiles = [float(student.ppf(1 - alpha, freedom)) for alpha in ALPHAS]
    beyond = [max(limit, quantile * error) for limit, quantile in zip(LOSS, quantiles, strict=True)]
    severity: Severity = "ok"
    for limit, name in zip(beyond, ("warning", "critical"), strict=True):
        if lost >= limit:
            severity = name  # type: ignore[assignment]
    low, high = max(0.0, now - 1.96 * error), min(1.0, now + 1.96 * error)
    what = "accuracy seems to have fallen" if severity != "ok" else "accuracy seems to hold"
    return Finding(
        column="label",
        method="estimated accuracy",
        severity=severity,
        score=now,
        warning=was - beyond[0],
        critical=was - beyond[1],
        reference=was,
        current=now,
        effects={"low": low, "high": high},
        words=f"{what}: estimated at {percent(now)} ({percent(low)} to {percent(high)}) from the confidences, without"
        f" labels; was {percent(was)}",
    )


def _with_error(
    before: Labelled, confidence: Numbers, between: Comparison, known: Numbers
) -> tuple[float, float, float]:
    """Accuracy then, estimate now, and the standard error of their difference."""
    assert before.confidence is not None
    dice = np.random.default_rng(0)
    rows = dice.choice(before.rows, min(before.rows, MAX_ROWS), replace=False)
    features, right = _logit(before.confidence[rows]), before.is_right[rows].astype(np.float64)
    drawn = _resampled(before.blocks[rows], dice)
    fits = _platt(features, right, np.concatenate([np.ones((1, len(rows))), drawn]))
    place = _logit(confidence)
    some = place if len(place) <= MAX_ROWS else dice.choice(place, MAX_ROWS, replace=False)
    accuracies = drawn @ right / drawn.sum(axis=1)
    differences = accuracies - _sigmoid(fits[1:, :1] + fits[1:, 1:] * some).mean(axis=1)
    each = _sigmoid(fits[0, 0] + fits[0, 1] * place)
    error = float(np.hypot(differences.std(), clustered_error(each, between.blocks[known.astype(bool)])))
    return float(before.is_right.mean()), float(each.mean()), error


def _resampled(blocks: Integers, dice: np.random.Generator) -> Numbers:
    """How often each row is drawn, [resamples, rows]: alike rows are drawn together, block by block."""
    numbers, each = np.unique(blocks, return_inverse=True)
    drawn = dice.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=RESAMPLES)
    return np.asarray(drawn[:, each], dtype=np.float64)


def _platt(features: Numbers, right: Numbers, weights: Numbers) -> Numbers:
    """Logistic regressions [fits, (intercept, slope)] with weights [fits, rows], by Newton's method.

    As Platt (1999) does, the answers are drawn a little to the middle, so that a model without errors has a fit.
    """
    count = right.sum()
    targets = np.where(right > 0, (count + 1) / (count + 2), 1 / (len(right) - count + 2))
    design = np.stack([np.ones_like(features), features], axis=1)
    fits = np.tile([0.0, 1.0], (len(weights), 1))
    for _ in range(_STEPS):
        probability = _sigmoid(fits @ design.T)
        gradient = (weights * (targets - probability)) @ design - _RIDGE * (fits - [0.0, 1.0])
        curvature = np.einsum("br,ri,rj->bij", weights * probability * (1 - probability), design, design, optimize=True)
        fits = fits + np.linalg.solve(curvature + _RIDGE * np.eye(2), gradient[..., None])[..., 0]
    return np.asarray(fits)


def _logit(confidence: Numbers) -> Numbers:
    inside = np.clip(confidence, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside)))


def _sigmoid(values: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -30, 30))))
