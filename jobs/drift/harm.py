"""The third question: does it do harm? By feedback where there is some, else by an estimate that knows its limits."""

from collections.abc import Iterator

import numpy as np

from jobs.confidence_bins import bins_of
from jobs.drift.blocks import clustered_error
from jobs.drift.change import Comparison
from jobs.drift.estimate import estimate_harm
from jobs.drift.evidence import CalibrationBin
from jobs.drift.intervals import Share, difference, wilson
from jobs.drift.labelled import Labelled, labelled
from jobs.drift.words import capital
from jobs.number_words import percent
from models.drift_report import Finding, Severity, Tier, worst

LEAST_OF_A_CLASS = 30
ACCURACY_LOSS = (0.02, 0.05)
"""Points lost that are worth a warning, and critical."""

CLASS_LOSS = (0.1, 0.25)
CALIBRATION_LOSS = (0.05, 0.1)
"""Of the gap between mean confidence and accuracy, beyond the reference's."""

ALPHAS = (0.01, 0.001)
"""One-sided."""


def judge_harm(between: Comparison, with_feedback: Labelled | None, labels: int = 0) -> Tier:
    """By feedback; without, by what the confidences would mean if they meant what they did in the reference.

    `labels`: how many there are, where they are too few for `with_feedback`.
    """
    before = labelled(between.reference, between.reference_blocks)
    if with_feedback is None:
        finding = estimate_harm(between, before, labels)
        return Tier(name="harm", severity=finding.severity, words=capital(finding.words) + ".", findings=(finding,))
    findings = [
        _accuracy(before, with_feedback),
        *_calibration(before, with_feedback),
        *_classes(before, with_feedback),
    ]
    told = [each for each in findings if each.severity in ("warning", "critical")] or findings[:1]
    words = "; ".join(each.words for each in told[:3])
    return Tier(
        name="harm",
        severity=worst([each.severity for each in findings]),
        words=capital(words) + ".",
        findings=tuple(findings),
    )


def _accuracy(before: Labelled | None, now: Labelled) -> Finding:
    share = now.share_right()
    _, low, high = wilson(share)
    words = f"accuracy by feedback is {percent(share.share)} ({percent(low)} to {percent(high)}, {now.rows} labelled)"
    if before is None:
        return Finding(
            column="label",
            method="accuracy",
            severity="unknown",
            score=share.share,
            current=share.share,
            effects={"low": low, "high": high, "labelled": now.rows},
            words=f"{words}; the reference has no labels to compare with",
        )
    was = before.share_right()
    return Finding(
        column="label",
        method="accuracy",
        severity=_lost(was, share, ACCURACY_LOSS),
        score=share.share,
        warning=was.share - ACCURACY_LOSS[0],
        critical=was.share - ACCURACY_LOSS[1],
        reference=was.share,
        current=share.share,
        effects={"low": low, "high": high, "labelled": now.rows},
        words=f"{words}, was {percent(was.share)}",
    )


def _lost(before: Share, now: Share, limits: tuple[float, float], among: int = 1) -> Severity:
    """Whether what is lost is certain, of `among` that are looked at, and worth speaking of."""
    severity: Severity = "ok"
    for alpha, limit, name in zip(ALPHAS, limits, ("warning", "critical"), strict=True):
        lost, low, _ = difference(before, now, 2 * alpha / among)
        if lost >= limit and low > 0:
            severity = name  # type: ignore[assignment]
    return severity


def _classes(before: Labelled | None, now: Labelled) -> Iterator[Finding]:
    if before is None:
        return
    names = [
        name
        for name in sorted(set(now.truth.tolist()))
        if min((now.truth == name).sum(), (before.truth == name).sum()) >= LEAST_OF_A_CLASS
    ]
    for name in names:
        was, share = before.share_right(before.truth == name), now.share_right(now.truth == name)
        severity = _lost(was, share, CLASS_LOSS, len(names))
        yield Finding(
            column=f"label {name}",
            method="accuracy",
            severity=severity,
            score=share.share,
            warning=was.share - CLASS_LOSS[0],
            critical=was.share - CLASS_LOSS[1],
            reference=was.share,
            current=share.share,
            words=f"of class {name!r}, {percent(share.share)} are recognised, was {percent(was.share)}",
        )


def _calibration(before: Labelled | None, now: Labelled) -> Iterator[Finding]:
    if before is None or before.confidence is None or now.confidence is None:
        return
    was, gap = _gap(before), _gap(now)
    change = gap[0] - was[0]
    error = float(np.hypot(was[1], gap[1]))
    severity: Severity = "ok"
    if abs(change) - 2.58 * error > 0 and abs(change) >= CALIBRATION_LOSS[0]:
        severity = "warning"
    if abs(change) - 3.29 * error > 0 and abs(change) >= CALIBRATION_LOSS[1]:
        severity = "critical"
    direction = "too sure of itself" if change > 0 else "less sure of itself than it might be"
    confidence, right = (float(np.average(each, weights=now.weights)) for each in (now.confidence, now.is_right))
    words = f"mean confidence is {percent(confidence)} where {percent(right)} are right"
    yield Finding(
        column="confidence",
        method="calibration",
        severity=severity,
        score=abs(change),
        warning=CALIBRATION_LOSS[0],
        critical=CALIBRATION_LOSS[1],
        reference=was[0],
        current=gap[0],
        effects={"ece": expected_calibration_error(now), "reference_ece": expected_calibration_error(before)},
        words=f"the model is {direction}: {words}" if severity != "ok" else words,
    )


def _gap(of: Labelled) -> tuple[float, float]:
    """Mean confidence less accuracy, and its standard error."""
    assert of.confidence is not None
    each = of.confidence - of.is_right
    return float(np.average(each, weights=of.weights)), clustered_error(each, of.blocks, of.weights)


def calibration_bins(of: Labelled | None) -> tuple[CalibrationBin, ...]:
    """Of equal width in confidence; empty ones are left out. Means are of what the rows stand for."""
    return tuple(each for each, _ in _weighted_bins(of))


def _weighted_bins(of: Labelled | None) -> Iterator[tuple[CalibrationBin, float]]:
    """Each with what its rows stand for."""
    if of is None or of.confidence is None:
        return
    place = bins_of(of.confidence)
    for each in np.unique(place):
        here = place == each
        weights = of.weights[here]
        confidence, right = (float(np.average(side[here], weights=weights)) for side in (of.confidence, of.is_right))
        yield CalibrationBin(confidence, right, int(here.sum())), float(weights.sum())


def expected_calibration_error(of: Labelled) -> float:
    """Mean distance of confidence and accuracy over bins of equal width (Naeini et al. 2015)."""
    gaps = [(abs(each.confidence - each.accuracy), weight) for each, weight in _weighted_bins(of)]
    return sum(gap * weight for gap, weight in gaps) / float(of.weights.sum())
