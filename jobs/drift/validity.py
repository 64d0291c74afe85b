"""The first question: is the traffic whole? Errors, values that are none, inputs of a kind never seen, the rate."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.drift.blocks import Integers, blocks_of, effect_of
from jobs.drift.change import some_ids
from jobs.drift.frame import MOST_SINGLETONS, OUTPUTS, Frame, chance_of_unseen
from jobs.drift.intervals import Share, difference
from jobs.drift.words import capital, noun, number
from jobs.number_words import percent
from models.drift_report import Finding, Severity, Tier, worst
from models.traffic import OK

CLIENT_ERRORS = frozenset(
    {
        "empty_body",
        "invalid_image",
        "invalid_json",
        "invalid_request",
        "invalid_tensor",
        "image_too_large",
        "payload_too_large",
        "unsupported_media_type",
    }
)
"""Inputs that could not be read; every other error is the service's."""

LIMITS: Mapping[str, tuple[float, float]] = {"errors": (0.01, 0.05), "missing": (0.01, 0.1), "unseen": (0.01, 0.25)}
"""Shares beyond the reference's or the earlier traffic's that are worth a warning, and critical."""

LEAST_ROWS = 500
"""Predictions that a window must have, and answers, for anything to be said but of errors and the rate."""

RATE = 4.0
"""Times more or less than before."""

ALPHAS = (0.005, 0.0005)
"""One-sided, of one finding."""

MAX_SIZES = 20
"""Where the reference has no more sizes of images than these, another size is unseen; else one beyond its range."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The version's traffic before the window: rows by status, with what they stand for."""

    by_status: Mapping[str, float]
    rows: int

    @property
    def total(self) -> float:
        """Predictions, with those that failed."""
        return sum(self.by_status.values())


@dataclass(frozen=True, slots=True)
class Rate:
    """Predictions of the whole model, whichever version answered: in the window, and in as long a time before."""

    now: float
    before: float


def judge_validity(reference: Frame, window: Frame, before: Counts | None = None, rate: Rate | None = None) -> Tier:
    """`window` holds answered and failed rows; without `rate` it is not judged.

    An outage is told of however few rows there are; nothing else is of fewer than LEAST_ROWS.
    """
    blocks = blocks_of(window)
    findings = list(_errors(window, blocks, before))
    if window.rows >= LEAST_ROWS:
        findings += [*_missing(reference, window, blocks), *_unseen(reference, window, blocks)]
    if rate is not None and rate.before:
        findings.append(_rate(rate))
    told = [each for each in findings if each.severity in ("warning", "critical")]
    severity, words = worst([each.severity for each in findings]), "; ".join(each.words for each in told[:3])
    if window.rows < LEAST_ROWS and not told:
        severity, words = "unknown", not_enough(window.rows)
    words = capital(words or "the data are whole") + "."
    return Tier(name="validity", severity=severity, words=words, findings=tuple(findings))


def not_enough(rows: int) -> str:
    """Without the full stop."""
    return f"not enough data: {rows} predictions, at least {LEAST_ROWS} are needed"


def _errors(window: Frame, blocks: Integers, before: Counts | None) -> Iterator[Finding]:
    if not window.has("status"):
        return
    status = window.texts("status")
    kinds = (
        ("decode failures", "of the inputs cannot be read", np.isin(status, sorted(CLIENT_ERRORS))),
        ("errors", "of the predictions fail", ~np.isin(status, [*sorted(CLIENT_ERRORS), OK])),
    )
    for column, words, failed in kinds:
        was = _share_before(before, column == "decode failures")
        codes = Counter(status[failed].tolist()).most_common(2)
        named = f" ({', '.join(code for code, _ in codes)})" if codes else ""
        yield _judged(column, words + named, failed, blocks, was, LIMITS["errors"], window)


def _share_before(before: Counts | None, by_clients: bool) -> Share:
    if before is None or not before.total:
        return Share(0.0, float("inf"))
    wanted = sum(
        count for code, count in before.by_status.items() if code != OK and (code in CLIENT_ERRORS) == by_clients
    )
    return Share(wanted / before.total, before.rows)


def _missing(reference: Frame, window: Frame, blocks: Integers) -> Iterator[Finding]:
    """Null, NaN and infinite values of answered rows."""
    answered = np.isin(window.texts("status"), [OK]) if window.has("status") else np.ones(window.rows, dtype=bool)
    asked = window.take(answered)
    for name in (*window.features(), *OUTPUTS):
        if name not in window.table.column_names or not reference.has(name) or not asked.rows:
            continue
        here, before = asked.of_kind(name), reference.of_kind(name)
        if not here.any():
            continue
        absent, absent_before = _absent(asked, name)[here], _absent(reference, name)[before]
        was = Share(float(absent_before.mean()), len(absent_before))
        words, limits = f"of {noun(name)} is missing, NaN or infinite", LIMITS["missing"]
        yield _judged(name, words, absent, blocks[answered][here], was, limits, asked.take(here))


def _absent(frame: Frame, name: str) -> npt.NDArray[np.bool_]:
    if frame.is_text(name):
        return np.array([value is None for value in frame.texts(name)], dtype=bool)
    return ~np.isfinite(frame.numbers(name))


def _unseen(reference: Frame, window: Frame, blocks: Integers) -> Iterator[Finding]:
    limits = LIMITS["unseen"]
    for name in window.features():
        if reference.has(name) and window.has(name) and reference.is_text(name) and window.is_text(name):
            chance = chance_of_unseen(reference.texts(name))
            if chance > MOST_SINGLETONS:
                continue
            values, known = window.texts(name), {each for each in reference.texts(name) if each is not None}
            is_new = np.array([each is not None and each not in known for each in values], dtype=bool)
            new = ", ".join(str(each) for each, _ in Counter(values[is_new].tolist()).most_common(3))
            words = f"have {noun(name)} {new}, which the reference has not" if new else f"have an unseen {noun(name)}"
            yield _judged(name, words, is_new, blocks, Share(chance, reference.rows), limits, window)
    if all(side.has(name) for side in (reference, window) for name in ("image_width", "image_height")):
        yield _sizes(reference, window, blocks)


def _sizes(reference: Frame, window: Frame, blocks: Integers) -> Finding:
    before, now = (
        np.stack([side.numbers("image_width"), side.numbers("image_height")], axis=1) for side in (reference, window)
    )
    known = np.unique(before[np.isfinite(before).all(axis=1)], axis=0)
    is_known = np.isfinite(now).all(axis=1)
    if len(known) <= MAX_SIZES:
        is_new = is_known & ~(now[:, None, :] == known[None]).all(axis=2).any(axis=1)
    else:
        is_new = is_known & ((now < known.min(axis=0)) | (now > known.max(axis=0))).any(axis=1)
    new = Counter(f"{width:.0f} x {height:.0f}" for width, height in now[is_new]).most_common(3)
    named = ", ".join(each for each, _ in new)
    words = f"of the images have a size that the reference has not{f': {named}' if named else ''}"
    was = Share(0.0, reference.rows)
    return _judged("image size", words, is_new, blocks, was, LIMITS["unseen"], window)


def _judged(
    column: str,
    words: str,
    is_bad: npt.NDArray[np.bool_],
    blocks: Integers,
    was: Share,
    limits: Sequence[float],
    window: Frame,
) -> Finding:
    """Whether the share of bad rows has certainly risen, and by how much."""
    share = float(is_bad.mean()) if len(is_bad) else 0.0
    now = Share(share, len(is_bad) / effect_of(is_bad.astype(np.int64), blocks)) if len(is_bad) else Share(0.0, 0.0)
    severity: Severity = "ok"
    for alpha, limit, name in zip(ALPHAS, limits, ("warning", "critical"), strict=True):
        risen, low, _ = difference(now, was, 2 * alpha)
        if risen >= limit and low > 0:
            severity = name  # type: ignore[assignment]
    ids = window.texts("request_id") if window.has("request_id") else None
    return Finding(
        column=column,
        method="share",
        severity=severity,
        score=share,
        warning=was.share + limits[0],
        critical=was.share + limits[1],
        reference=was.share,
        current=share,
        words=f"{percent(share)} {words}" + (f", was {percent(was.share)}" if was.share else ""),
        examples=some_ids(ids, np.flatnonzero(is_bad)) if severity != "ok" and ids is not None else (),
    )


def _rate(rate: Rate) -> Finding:
    ratio = max(rate.now, 1.0) / rate.before  # not one at all is the least there can be
    is_other = ratio >= RATE or ratio <= 1 / RATE
    return Finding(
        column="rate",
        method="ratio",
        severity="warning" if is_other else "ok",
        score=max(ratio, 1 / ratio),
        warning=RATE,
        reference=rate.before,
        current=rate.now,
        words=f"{number(rate.now)} predictions of the model, {number(rate.before)} in as long a time before",
    )
