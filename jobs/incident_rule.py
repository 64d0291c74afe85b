"""When reports make an incident, and when they end one: each tier by itself, and all of them together."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from jobs.incident_lines import Looked
from models.drift_report import Severity
from models.monitoring import AlertRule, Level

_ORDER: Mapping[Severity, int] = {"unknown": 0, "ok": 0, "warning": 1, "critical": 2}


def of_incident(reports: Sequence[Looked], since: datetime, of: int) -> list[Looked]:
    """Those of an incident: the last that may have led to it, and all later ones."""
    return [*[each for each in reports if each.time <= since][-of:], *(each for each in reports if each.time > since)]


def _series(reports: Sequence[Looked], rule: AlertRule) -> Iterator[list[Severity]]:
    """What is known, by report: of all tiers together, then of each one, so that one tells nothing of another."""
    yield [each.severity for each in reports if each.severity != "unknown"]
    names = sorted({name for each in reports for name in each.tiers})
    for name in names:
        told = [each for each in reports if each.tiers.get(name, "unknown") != "unknown"]
        yield [each.tiers[name] for each in (_believed(told, rule.level) if name == "harm" else told)]


def _believed(reports: Sequence[Looked], level: Level) -> Iterator[Looked]:
    """Without the estimates that find no harm where the last feedback did: only feedback takes that back."""
    is_proven = False
    for each in reports:
        is_harm = is_bad(each.tiers["harm"], level)
        if each.has_feedback:
            is_proven = is_harm
        if each.has_feedback or is_harm or not is_proven:
            yield each


def reached(reports: Sequence[Looked], rule: AlertRule) -> Level | None:
    """The highest level that enough of the last reports are at."""
    levels: tuple[Level, ...] = ("critical", "warning") if rule.level == "warning" else ("critical",)
    last = [series[-rule.of :] for series in _series(reports, rule)]
    return next((level for level in levels if any(_count(each, level) >= rule.after for each in last)), None)


def has_recovered(reports: Sequence[Looked], rule: AlertRule) -> bool:
    """Whether the last of every series that was ever bad are good."""
    return all(_is_over(series, rule) for series in _series(reports, rule))


def _is_over(series: Sequence[Severity], rule: AlertRule) -> bool:
    if not _count(series, rule.level):
        return True
    last = series[-rule.resolve_after :]
    return len(last) >= rule.resolve_after and not _count(last, rule.level)


def _count(series: Sequence[Severity], level: Level) -> int:
    return sum(is_bad(each, level) for each in series)


def is_bad(severity: Severity, level: Level) -> bool:
    """Whether it is at the level or above."""
    return _ORDER[severity] >= _ORDER[level]


def rank(level: Level | None) -> int:
    """To compare levels by; none is below all."""
    return 0 if level is None else _ORDER[level]
