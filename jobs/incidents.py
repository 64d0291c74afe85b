"""Incidents of drift: one at a time per model, which begins, gets worse and ends, as a fold over what is on file."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.drift_report import DriftReport, Severity, TierName, worst
from models.monitoring import AlertRule, Level

STALE_AFTER = 3
"""A version that was not looked at for so many of its periods runs no more, and keeps no incident open."""

Turn = Literal["opened", "worse", "resolved"]

_ORDER: Mapping[Severity, int] = {"unknown": 0, "ok": 0, "warning": 1, "critical": 2}


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    time: datetime


class Looked(_Line):
    """A report: `severity` is the worst of the `tiers` that the rule looks at; `every_s` how often there is one.

    `has_feedback` says that harm was judged by feedback and not estimated.
    """

    record: Literal["looked"] = "looked"
    version: int
    severity: Severity
    tiers: Mapping[TierName, Severity] = Field(default_factory=dict)
    has_feedback: bool = False
    words: str = ""
    every_s: float | None = None


class Turned(_Line):
    """An incident began, got worse or ended; `level` is the worst it was. `incident` is its name."""

    record: Literal["turned"] = "turned"
    incident: str
    turn: Turn
    level: Level
    since: datetime
    versions: tuple[int, ...] = ()
    words: str = ""


class Told(_Line):
    """A message about a turn: it arrived at `target`, or `error` says why it was given up after `attempts`."""

    record: Literal["told"] = "told"
    incident: str
    turn: Turn
    target: str
    attempts: int
    error: str | None = None


class Called(_Line):
    """A command was started for an incident, and once it has ended, with which `outcome`."""

    record: Literal["called"] = "called"
    incident: str
    command: tuple[str, ...]
    outcome: str | None = None


Line = Annotated[Looked | Turned | Told | Called, Field(discriminator="record")]
LINE: TypeAdapter[Line] = TypeAdapter(Line)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands: its incident's last turn while there is one, and the reports since the last one ended."""

    incident: Turned | None
    reports: Mapping[int, Sequence[Looked]]


def looked(report: DriftReport, rule: AlertRule, every: timedelta | None) -> Looked:
    """What an incident has to know of a report."""
    tiers = {tier.name: tier.severity for tier in report.tiers if tier.name in rule.tiers}
    return Looked(
        time=report.created,
        version=report.version,
        severity=worst(list(tiers.values())),
        tiers=tiers,
        has_feedback=_has_feedback(report),
        words=report.words,
        every_s=None if every is None else every.total_seconds(),
    )


def _has_feedback(report: DriftReport) -> bool:
    harm = (finding for tier in report.tiers if tier.name == "harm" for finding in tier.findings)
    return any(finding.method == "accuracy" and finding.severity != "unknown" for finding in harm)


def standing(lines: Iterable[Line]) -> Standing:
    """Read where a model stands."""
    incident: Turned | None = None
    reports: dict[int, list[Looked]] = defaultdict(list)
    for line in lines:
        if isinstance(line, Looked):
            reports[line.version].append(line)
        elif isinstance(line, Turned):
            incident = None if line.turn == "resolved" else line
            if incident is None:
                reports.clear()  # what led to an incident does not lead to the next one
    return Standing(incident, reports)


def next_turn(model: str, lines: Sequence[Line], rule: AlertRule) -> Turned | None:
    """What the newest report brings about; None where all stays as it is."""
    now = max((line.time for line in lines if isinstance(line, Looked)), default=None)
    if now is None:
        return None
    found = standing(lines)
    known = {version: _known(reports) for version, reports in found.reports.items() if not _is_stale(reports, now)}
    level = max((_reached(reports, rule) for reports in known.values()), key=_rank, default=None)
    if found.incident is None:
        return None if level is None else _turned(_name(model, now), "opened", level, now, now, known, rule)
    name, since, before = found.incident.incident, found.incident.since, found.incident.level
    if level is not None and _rank(level) > _rank(before):
        return _turned(name, "worse", level, now, since, known, rule)
    if all(_has_recovered(_since(reports, since, rule.of), rule) for reports in known.values()):
        return _turned(name, "resolved", before, now, since, known, rule, found.incident.versions)
    return None


def _turned(
    name: str,
    turn: Turn,
    level: Level,
    now: datetime,
    since: datetime,
    known: Mapping[int, Sequence[Looked]],
    rule: AlertRule,
    versions: tuple[int, ...] = (),
) -> Turned:
    bad = {version: each[-1] for version, each in known.items() if each and _is_bad(each[-1].severity, rule.level)}
    words = "; ".join(f"version {version}: {each.words}" for version, each in sorted(bad.items()))
    named = versions or tuple(sorted(bad)) or tuple(sorted(known))
    return Turned(time=now, incident=name, turn=turn, level=level, since=since, versions=named, words=words)


def _name(model: str, now: datetime) -> str:
    return f"{model}-{now:%Y%m%dT%H%M%SZ}"


def _known(reports: Sequence[Looked]) -> list[Looked]:
    return [each for each in reports if each.severity != "unknown"]


def _is_stale(reports: Sequence[Looked], now: datetime) -> bool:
    every_s = reports[-1].every_s
    return every_s is not None and (now - reports[-1].time).total_seconds() > STALE_AFTER * every_s


def _since(reports: Sequence[Looked], since: datetime, of: int) -> list[Looked]:
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
        is_bad = _is_bad(each.tiers["harm"], level)
        if each.has_feedback:
            is_proven = is_bad
        if each.has_feedback or is_bad or not is_proven:
            yield each


def _reached(reports: Sequence[Looked], rule: AlertRule) -> Level | None:
    """The highest level that enough of the last reports are at."""
    levels: tuple[Level, ...] = ("critical", "warning") if rule.level == "warning" else ("critical",)
    last = [series[-rule.of :] for series in _series(reports, rule)]
    return next((level for level in levels if any(_count(each, level) >= rule.after for each in last)), None)


def _has_recovered(reports: Sequence[Looked], rule: AlertRule) -> bool:
    return all(_is_over(series, rule) for series in _series(reports, rule))


def _is_over(series: Sequence[Severity], rule: AlertRule) -> bool:
    if not _count(series, rule.level):
        return True
    last = series[-rule.resolve_after :]
    return len(last) >= rule.resolve_after and not _count(last, rule.level)


def _count(series: Sequence[Severity], level: Level) -> int:
    return sum(_is_bad(each, level) for each in series)


def _is_bad(severity: Severity, level: Level) -> bool:
    return _ORDER[severity] >= _ORDER[level]


def _rank(level: Level | None) -> int:
    return 0 if level is None else _ORDER[level]
