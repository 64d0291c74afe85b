"""A drift report as a page: one file that needs no network, Evidently's own report folded in at its end."""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from markupsafe import Markup

from jobs.comparison_charts import Tick
from jobs.drift import page_words, plots
from jobs.drift.evidence import Evidence
from jobs.drift.words import capital
from jobs.number_words import percent
from jobs.pages import environment
from models.drift_report import DriftReport, Finding, Severity

MAX_PLOTS = 12
MAX_EXAMPLES = 12

ACCURACIES = {"accuracy": "Accuracy, by feedback", "estimated accuracy": "Accuracy, estimated without labels"}
"""Methods that tell one, with its interval."""

QUANTITIES = (
    ("predictions", "Predictions"),
    ("errors", "Share that failed"),
    ("confidence", "Mean confidence"),
    ("accuracy", "Accuracy, by feedback"),
)

_SCRIPT = re.compile(r"<script\b[^>]*>(.*?)</script", re.DOTALL | re.IGNORECASE)
_ORDER: dict[Severity, int] = {"critical": 0, "warning": 1, "unknown": 2, "ok": 3}


@dataclass(frozen=True, slots=True)
class ColumnPlot:
    """A column with what was found about it, and its plot."""

    column: str
    severity: Severity
    words: str
    histogram: plots.Histogram | None
    pairs: tuple[plots.Pair, ...]


@dataclass(frozen=True, slots=True)
class TimePlot:
    """A quantity over the window."""

    title: str
    line: plots.Line
    low: str
    high: str


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """An accuracy with its interval and what it was in the reference, as places on an axis in percent."""

    title: str
    words: str
    value: float
    low: float
    high: float
    reference: float | None
    ticks: tuple[Tick, ...]


def drift_page(report: DriftReport, evidence: Evidence, evidently: str | None = None) -> str:
    """The whole HTML document. What came from outside is escaped; `evidently` is a document in a frame of its own.

    Scripts run nowhere but in that frame, which is cut off from the page and from the network, and only those that
    Evidently wrote: the page's policy names each by its hash.
    """
    findings = sorted((each for tier in report.tiers for each in tier.findings), key=lambda each: _ORDER[each.severity])
    return (
        environment(
            state=page_words.state,
            tier_title=page_words.tier_title,
            tier_question=page_words.tier_question,
            method=page_words.method,
            column=page_words.column,
            number=page_words.number,
            p_value=page_words.p_value,
            limit=page_words.limit,
            percent=percent,
            capital=capital,
        )
        .get_template("drift.html.jinja")
        .render(
            report=report,
            title=page_words.title(report),
            flagged=[each for each in findings if each.severity in ("warning", "critical")],
            findings=findings,
            plots=column_plots(findings, evidence),
            classes=plots.class_pairs(evidence.class_shares),
            times=list(_times(evidence)),
            span=plots.span(evidence.hours),
            accuracies=accuracy_rows(findings),
            calibrations=_calibrations(evidence),
            max_examples=MAX_EXAMPLES,
            scripts=" ".join(script_hashes(evidently)) if evidently else "",
            evidently=framed(evidently) if evidently else None,
        )
    )


def column_plots(findings: list[Finding], evidence: Evidence) -> list[ColumnPlot]:
    """The plots of the columns that are flagged; where none is, of the three that changed most."""
    worst: dict[str, Finding] = {}
    for finding in findings:  # the most serious come first
        worst.setdefault(finding.column, finding)
    flagged = [each for each in evidence.samples if _is_flagged(worst.get(each.column))]
    flagged.sort(key=lambda each: _ORDER[worst[each.column].severity])
    made = []
    for samples in flagged[:MAX_PLOTS] or evidence.samples[:3]:
        plot = plots.column_plot(samples)
        if plot is None:
            continue
        about = worst.get(samples.column)
        is_histogram = isinstance(plot, plots.Histogram)
        made.append(
            ColumnPlot(
                samples.column,
                about.severity if about else "unknown",
                about.words if about else "",
                plot if isinstance(plot, plots.Histogram) else None,
                () if is_histogram or isinstance(plot, plots.Histogram) else plot,
            )
        )
    return made


def accuracy_rows(findings: Sequence[Finding]) -> list[AccuracyRow]:
    """Accuracy by feedback, estimated accuracy, with their intervals."""
    known = [each for each in findings if each.method in ACCURACIES and each.column == "label" and _has_interval(each)]
    least = _least(known)

    def at(value: float) -> float:
        return round(100 * (value - least) / (1 - least), 2)

    return [
        AccuracyRow(
            ACCURACIES[each.method],
            each.words,
            at(each.score or 0.0),
            at(each.effects["low"]),
            at(each.effects["high"]),
            None if each.reference is None else at(each.reference),
            (Tick(0.0, percent(least)), Tick(100.0, "100 %")),
        )
        for each in known
    ]


def _has_interval(finding: Finding) -> bool:
    return finding.score is not None and {"low", "high"} <= finding.effects.keys()


def _least(findings: Sequence[Finding]) -> float:
    """Where the axis of accuracies begins."""
    ends = [end for each in findings for end in (each.effects["low"], each.score, each.reference) if end is not None]
    return max(0.0, min(ends, default=1.0) - 0.05)


def script_hashes(document: str) -> Iterator[str]:
    """What a content security policy calls the inline scripts of a document.

    Source: https://www.w3.org/TR/CSP3/#match-element-to-source-list
    """
    for body in _SCRIPT.findall(_as_parsed(document)):
        yield f"'sha256-{b64encode(sha256(body.encode()).digest()).decode()}'"


def framed(document: str) -> Markup:
    """The document as the value of an attribute in single quotes, of which it has few."""
    return Markup(_as_parsed(document).replace("&", "&amp;").replace("'", "&#39;"))  # noqa: S704


def _as_parsed(document: str) -> str:
    return document.replace("\r\n", "\n").replace("\r", "\n")


def _is_flagged(finding: Finding | None) -> bool:
    return finding is not None and finding.severity in ("warning", "critical")


def _times(evidence: Evidence) -> Iterator[TimePlot]:
    for quantity, title in QUANTITIES:
        line = plots.line(evidence.hours, quantity)
        if line is None or (quantity == "errors" and not any(hour.errors for hour in evidence.hours)):
            continue
        written = (lambda value: f"{value:,.0f}") if quantity == "predictions" else percent
        yield TimePlot(title, line, written(line.low), written(line.high))


def _calibrations(evidence: Evidence) -> list[tuple[str, plots.Reliability]]:
    if not evidence.calibration:  # the reference's alone says nothing of this window
        return []
    sides = (("Reference", evidence.reference_calibration), ("Now", evidence.calibration))
    return [(title, plots.reliability(bins)) for title, bins in sides if bins]
