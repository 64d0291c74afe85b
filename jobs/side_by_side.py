"""The table that has a column for each variant, as text; the terminal and the page show the same."""

from collections.abc import Callable
from dataclasses import dataclass

from jobs.comparison import Comparison, VariantReport
from jobs.comparison_words import accuracy, state
from jobs.number_words import milliseconds, percent


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared, and a text for each variant."""

    label: str
    cells: tuple[str, ...]


def side_by_side(comparison: Comparison) -> list[Row]:
    """All rows; one that has nothing to say of any variant is left out."""
    columns: dict[str, Callable[[VariantReport], str]] = {
        "State": lambda each: state(each).word,
        "Share of traffic": _share,
        "Answered so far": lambda each: _realised(comparison, each),
        "Requests": lambda each: f"{each.statistics.requests:,}",
        "Errors": _errors,
        "Errors by kind": _failures,
        "p50": lambda each: milliseconds(each.statistics.p50_ms),
        "p90": lambda each: milliseconds(each.statistics.p90_ms),
        "p99": lambda each: milliseconds(each.statistics.p99_ms),
        "Mean confidence": lambda each: _optional_percent(each.statistics.confidence),
        "Accuracy by feedback": accuracy,
        "Agrees with the champion": _agreement,
        "Outputs differ": _differences,
        "Copies dropped": lambda each: f"{each.statistics.dropped:,}" if each.variant == "shadow" else "",
        "Breaker": lambda each: (each.breaker or "") if each.variant != "champion" else "",
    }
    rows = [Row(label, tuple(text(each) for each in comparison.variants)) for label, text in columns.items()]
    return [row for row in rows if any(row.cells)]


def _share(report: VariantReport) -> str:
    if report.variant == "shadow":
        return f"copies of {percent(report.share)}"
    ramping = report.variant == "challenger" and report.stopped_because is None and report.share < report.declared
    return percent(report.share) + (f", later {percent(report.declared)}" if ramping else "")


def _realised(comparison: Comparison, report: VariantReport) -> str:
    return _optional_percent(comparison.answered_share(report))


def _errors(report: VariantReport) -> str:
    rate = report.statistics.error_rate
    return "" if rate is None else f"{report.statistics.failed:,} ({percent(rate)})"


def _failures(report: VariantReport) -> str:
    kinds = sorted(report.statistics.failures.items(), key=lambda kind: -kind[1])
    return ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in kinds)


def _agreement(report: VariantReport) -> str:
    numbers = report.statistics
    return f"{percent(numbers.agreed / numbers.compared)} of {numbers.compared:,}" if numbers.compared else ""


def _differences(report: VariantReport) -> str:
    numbers = report.statistics
    if numbers.mean_difference is None:
        return ""
    most = "" if numbers.max_difference is None else f", {numbers.max_difference:.2g} at most"
    return f"{numbers.mean_difference:.2g} on average{most}"


def _optional_percent(share: float | None) -> str:
    return "" if share is None else percent(share)
