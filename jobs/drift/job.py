"""One drift run: read the window and the reference, ask the three questions, write the report."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from jobs.drift import evidently_report
from jobs.drift.change import Measure
from jobs.drift.evidence import Evidence, Hour
from jobs.drift.examination import Examination, Window, examine
from jobs.drift.frame import Column, Frame, comparable
from jobs.drift.page import drift_page
from jobs.drift.window import (
    Span,
    WindowRows,
    champion,
    count,
    is_shadow,
    latest,
    of_version,
    rate_of,
    read_labelled,
    read_window,
)
from models.drift_report import DriftReport, Reference
from models.drift_report import Window as ReportedWindow
from models.errors import NotFound
from models.monitoring import drift_directory
from models.reference import FoundReference, find_reference
from models.store import Store
from models.traffic_tables import TrafficTables

REPORT, PAGE = "report.json", "report.html"
MAX_REFERENCE_ROWS = 10_000

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Question:
    """What to look at: `reach` is how long back, or how many of the last predictions. Without version: the champion."""

    model: str
    version: int | None = None
    reach: timedelta | int = timedelta(hours=24)


def run(
    question: Question, tables: TrafficTables, store: Store, out: Path | None, show: Show
) -> tuple[DriftReport, Path]:
    """Return the report and the directory that it was written to.

    Raises ModelNotFound, VersionNotFound, NotFound where there is no reference, TrafficUnavailable.
    """
    began, now = time.monotonic(), datetime.now(UTC)
    table = tables.known(question.model)
    version = question.version or champion(table, now)
    before = _reference(store, question.model, version)
    span = _span(question, table, version, now)
    shadow = is_shadow(table, version, span)
    where = of_version(version, shadow)
    show(f"version {version}: reading its traffic since {span.since:%Y-%m-%d %H:%M}")
    read = read_window(table, where, span, show)
    earlier = count(table, where, _span_before(question, table, version, span))
    known = read_labelled(tables, question.model, version, span, shadow)
    show(f"comparing {read.sample.rows:,} of {read.predictions:,.0f} predictions with the reference")
    reference = _capped(Frame(before.read()))
    # How long the last so many predictions took is no rate: a burst would always be many times what was before.
    rate = None if isinstance(question.reach, int) else rate_of(table, span)
    window = Window(read.sample, known, earlier, rate)
    found = examine(reference, window, _by_evidently(reference, read.sample))
    directory = out or drift_directory(tables.root, question.model) / f"{now:%Y%m%dT%H%M%S}Z-v{version}"
    directory.mkdir(parents=True, exist_ok=True)
    evidently = _write_evidently(reference, read.sample, found, directory, show)
    report = DriftReport(
        model=question.model,
        version=version,
        created=now,
        window=ReportedWindow(
            since=span.since,
            until=span.until,
            rows=read.sample.rows,
            predictions=round(read.predictions),
            independent=found.change.independent if found.change else None,
        ),
        reference=Reference(source=before.origin.source, rows=before.rows),
        severity=found.severity,
        words=found.words,
        tiers=found.tiers,
        evidently=evidently.name if evidently else None,
        duration_s=round(time.monotonic() - began, 2),
    )
    _write(report, evidence(reference, read, known, found), directory, evidently)
    return report, directory


def _reference(store: Store, model: str, version: int) -> FoundReference:
    found = find_reference(store, model, version)
    if found is None:
        raise NotFound(
            f"{model} version {version} has no reference to compare with: freeze one with"
            f" `tiltyard reference {model} --version {version} --from-traffic 7d`, or publish it with labelled rows"
        )
    return found


def _capped(frame: Frame) -> Frame:
    if frame.rows <= MAX_REFERENCE_ROWS:
        return frame
    return frame.take(np.sort(np.random.default_rng(0).choice(frame.rows, MAX_REFERENCE_ROWS, replace=False)))


def _span(question: Question, table: Any, version: int, now: datetime) -> Span:
    if isinstance(question.reach, int):
        return latest(table, version, question.reach, now)
    return Span(now - question.reach, now)


def _span_before(question: Question, table: Any, version: int, span: Span) -> Span:
    """As many predictions, or as long a time."""
    if isinstance(question.reach, int):
        return latest(table, version, question.reach, span.since)
    return span.before


def _by_evidently(reference: Frame, window: Frame) -> Measure:
    def measure(columns: Any) -> Any:
        return evidently_report.measure(columns, reference, window.answered())

    return measure


def _write_evidently(reference: Frame, window: Frame, found: Examination, directory: Path, show: Show) -> Path | None:
    answered = window.answered()
    columns: list[Column] = comparable(reference, answered) if found.change else []
    if found.change is None or not columns:
        return None
    show("writing Evidently's page")
    return evidently_report.write_page(columns, reference, answered, found.change.judged, directory)


def evidence(reference: Frame, read: WindowRows, known: Frame | None, found: Examination) -> Evidence:
    """What the page draws."""
    return Evidence(
        samples=found.change.samples if found.change else (),
        class_shares=_class_shares(reference, read.sample.answered()),
        hours=tuple(_with_accuracy(hour, known) for hour in read.hours),
        reference_calibration=found.reference_calibration,
        calibration=found.calibration,
    )


def _class_shares(reference: Frame, current: Frame) -> dict[str, tuple[float, float]]:
    if not (reference.has("label") and current.has("label")):
        return {}
    before, now = ([str(each) for each in side.texts("label") if each is not None] for side in (reference, current))
    return {name: (before.count(name) / len(before), now.count(name) / len(now)) for name in sorted({*before, *now})}


def _with_accuracy(hour: Hour, known: Frame | None) -> Hour:
    if known is None:
        return hour
    start = int(hour.start.timestamp() * 1e6)
    times = known.microseconds()
    here = known.take((times >= start) & (times < start + 3_600_000_000))
    if not here.rows:
        return hour
    right = here.texts("label") == here.texts("true_label")
    weights = here.numbers("weight") if here.has("weight") else None
    return replace(hour, accuracy=float(np.average(right, weights=weights)), labelled=here.rows)


def _write(report: DriftReport, drawn: Evidence, directory: Path, evidently: Path | None) -> None:
    folded = evidently.read_text(encoding="utf-8") if evidently else None
    (directory / PAGE).write_text(drift_page(report, drawn, folded), encoding="utf-8")
    temporary = directory / f".{REPORT}.tmp"
    temporary.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    temporary.rename(directory / REPORT)  # last, and whole: whoever sees it finds the rest
