"""The second question: whether the traffic has changed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.drift.blocks import Integers, design_effect
from jobs.drift.distances import Cells, cut, effects
from jobs.drift.evidence import MAX_SAMPLES, Samples
from jobs.drift.frame import Column, Frame, comparable
from jobs.drift.thresholds import FEW_UNRELATED, FLOORS, Drawn, Key, Threshold, thresholds
from jobs.drift.two_sample import Separation, matrices, separate
from jobs.drift.words import capital, categories_changed, number, numbers_changed, unchanged
from models.drift_report import Finding, Severity, Tier, worst

EXAMPLES = 5
"""Request ids that a finding names."""

Measure = Callable[[Sequence[Column]], Mapping[str, Mapping[str, float]]]
"""All that is known of each column, by method: `psi`, `jensenshannon`, ... and the p-values `ks` and `chisquare`."""

BLIND = 2.0
"""A threshold beyond so many times what is critical at the least is reached by next to nothing."""

_P_VALUES = ("ks", "chisquare")
_PLACES = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """The window against the reference, as every tier needs it. Blocks are numbers of rows that belong together."""

    reference: Frame
    current: Frame
    reference_blocks: Integers
    blocks: Integers
    separation: Separation | None
    made_of: str  # what the rows were told apart by


@dataclass(frozen=True, slots=True)
class Change:
    """The tier, what its plots need, the method and threshold that judged each column, and the rows' worth."""

    tier: Tier
    samples: tuple[Samples, ...]
    judged: dict[str, tuple[str, float]]
    independent: float


def compare(reference: Frame, current: Frame, reference_blocks: Integers, blocks: Integers) -> Comparison:
    """Look at all columns together."""
    found = matrices(reference, current)
    separation = separate(found[0], found[1], reference_blocks, blocks) if found else None
    return Comparison(reference, current, reference_blocks, blocks, separation, found[2] if found else "")


def our_own(columns: Sequence[Column]) -> dict[str, dict[str, float]]:
    """Effect sizes without Evidently, and without p-values: for simulations."""
    return {column.name: effects(column, cut(column)) for column in columns}


def judge_change(between: Comparison, measure: Measure = our_own) -> Change:
    """Compare column by column."""
    columns = comparable(between.reference, between.current)
    cells = {column.name: cut(column) for column in columns}
    worth = {column.name: len(column.current) / design_effect(column, between.blocks) for column in columns}
    limits = thresholds([_drawn(column, cells[column.name], worth[column.name], between) for column in columns])
    measured = measure(columns) if columns else {}
    corrected = benjamini_hochberg({name: _p_value(found) for name, found in measured.items()})
    ids = between.current.texts("request_id") if between.current.has("request_id") else None
    findings = [_finding(column, measured[column.name], limits, corrected, ids) for column in columns]
    ranked = sorted(zip(findings, columns, strict=True), key=lambda pair: -_excess(pair[0]))
    told = [finding for finding, _ in ranked]
    if between.separation is not None:
        told.insert(0, _separated(between.separation, between.made_of, ids))
    independent = between.current.rows * min((worth[each.name] / len(each.current) for each in columns), default=1.0)
    severity, words = worst([each.severity for each in told]), _words(told)
    if severity == "ok" and (independent < FEW_UNRELATED or _is_blind(limits)):
        severity, words = "unknown", f"Too few unrelated rows to tell: they amount to {number(independent)}."
    return Change(
        tier=Tier(name="drift", severity=severity, words=words, findings=tuple(told)),
        samples=tuple(_samples(column) for _, column in ranked),
        judged={each.column: (each.method, each.warning) for each in findings if each.warning is not None},
        independent=independent,
    )


def _is_blind(limits: Mapping[Key, Threshold]) -> bool:
    """Whether by no method any column could show what is critical."""
    return bool(limits) and all(each.warning > BLIND * FLOORS[method][1] for (_, method), each in limits.items())


def _drawn(column: Column, cells: Cells, worth: float, between: Comparison) -> Drawn:
    values = column.of(between.reference)
    known = np.isfinite(values) if column.is_numeric else values != None  # noqa: E711 (element by element)
    before = Column(column.name, column.is_numeric, column.current, column.reference, np.flatnonzero(known))
    return Drawn(column.name, cells, len(column.reference) / design_effect(before, between.reference_blocks), worth)


def benjamini_hochberg(p_values: Mapping[str, float | None]) -> dict[str, float]:
    """Adjusted p-values of those that are there (Benjamini and Hochberg 1995)."""
    known = sorted(((name, p) for name, p in p_values.items() if p is not None), key=lambda pair: pair[1])
    raw = np.array([p for _, p in known])
    scaled = raw * len(raw) / np.arange(1, len(raw) + 1)
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0) if len(raw) else raw
    return {name: float(p) for (name, _), p in zip(known, adjusted, strict=True)}


def _p_value(found: Mapping[str, float]) -> float | None:
    return next((found[method] for method in _P_VALUES if np.isfinite(found.get(method, np.nan))), None)


def _finding(
    column: Column,
    found: Mapping[str, float],
    limits: Mapping[Key, Threshold],
    corrected: Mapping[str, float],
    ids: Any,
) -> Finding:
    scores = {method: found[method] for name, method in limits if name == column.name}
    severity, method = max(
        (_judge(score, limits[column.name, each]), score / limits[column.name, each].warning, each)
        for each, score in scores.items()
    )[::2]
    limit = limits[column.name, method]
    is_changed = severity > 0
    before, now = _summaries(column) if column.is_numeric else (None, None)
    return Finding(
        column=column.name,
        method=method,
        severity=_SEVERITIES[severity],
        score=scores[method],
        warning=limit.warning,
        critical=limit.critical,
        p_value=corrected.get(column.name),
        reference=before,
        current=now,
        effects={name: value for name, value in found.items() if np.isfinite(value)},
        words=_changed(column) if is_changed else unchanged(column.name),
        examples=_examples(column, ids) if is_changed and ids is not None else (),
    )


_SEVERITIES: tuple[Severity, ...] = ("ok", "warning", "critical")


def _judge(score: float, limit: Threshold) -> int:
    return int(score >= limit.warning) + int(score >= limit.critical)


def _summaries(column: Column) -> tuple[float, float]:
    return float(column.reference.mean()), float(column.current.mean())


def _changed(column: Column) -> str:
    if column.is_numeric:
        spreads = float(column.reference.std()), float(column.current.std())
        return numbers_changed(column.name, _summaries(column), spreads)
    before, now = (
        {str(name): count / len(side) for name, count in Counter(side.tolist()).items()}
        for side in (column.reference, column.current)
    )
    return categories_changed(column.name, before, now)


def _examples(column: Column, ids: Any) -> tuple[str, ...]:
    """Requests of the kind that has grown most."""
    if column.is_numeric:
        edges = np.unique(np.quantile(np.concatenate([column.reference, column.current]), np.linspace(0, 1, _PLACES)))
        before, now = (np.searchsorted(edges, side, side="right") for side in (column.reference, column.current))
    else:
        known = np.unique(np.concatenate([column.reference, column.current]).astype(str))
        before, now = (np.searchsorted(known, side.astype(str)) for side in (column.reference, column.current))
    width = int(max(before.max(), now.max())) + 1
    shares = [np.bincount(side, minlength=width) / len(side) for side in (before, now)]
    alike = np.flatnonzero(now == int(np.argmax(shares[1] - shares[0])))
    return some_ids(ids, column.rows[alike])


def some_ids(ids: Any, rows: Integers) -> tuple[str, ...]:
    """Request ids of rows spread over those that are given."""
    picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(EXAMPLES, len(rows))).astype(int))] if len(rows) else rows
    return tuple(dict.fromkeys(str(ids[row]) for row in picked))


def _separated(found: Separation, made_of: str, ids: Any) -> Finding:
    severity = _SEVERITIES[int(found.auc >= found.warning) + int(found.auc >= found.critical)]
    return Finding(
        column="all columns",
        method="auc",
        severity=severity,
        score=found.auc,
        warning=found.warning,
        critical=found.critical,
        reference=0.5,
        current=found.auc,
        effects={"auc": found.auc, "auc_error": found.error, "beyond": found.beyond},
        words=f"a classifier tells the window from the reference by {made_of} with an AUC of {number(found.auc)}"
        " (0.5: not at all, 1: always)",
        examples=some_ids(ids, found.most_foreign[:EXAMPLES]) if severity != "ok" and ids is not None else (),
    )


def _excess(finding: Finding) -> float:
    rank = _SEVERITIES.index(finding.severity)
    return rank * 1e6 + (finding.score or 0.0) / (finding.warning or 1.0)


def _words(findings: Sequence[Finding]) -> str:
    told = [each for each in findings if each.severity in ("warning", "critical")]
    columns = [each for each in told if each.method != "auc"] or told
    if not findings:
        return (
            "Nothing can be compared: the window and the reference have no column in common of which enough is known."
        )
    if not told:
        return "The traffic is as in the reference."
    more = f"; and {len(columns) - 3} more" if len(columns) > 3 else ""
    return capital("; ".join(each.words for each in columns[:3])) + more + "."


def _samples(column: Column) -> Samples:
    dice = np.random.default_rng(0)
    before, now = (
        side if len(side) <= MAX_SAMPLES else dice.choice(side, MAX_SAMPLES, replace=False)
        for side in (column.reference, column.current)
    )
    return Samples(column.name, before, now)
