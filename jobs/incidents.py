"""Incidents of drift: one at a time per model, which begins, gets worse and ends, as a fold over what is on file."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobs.incident_lines import Line, Looked, Turn, Turned
from jobs.incident_rule import has_recovered, is_bad, of_incident, rank, reached
from models.monitoring import AlertRule, Level

STALE_AFTER = 3
"""A version that was not looked at for so many of its periods runs no more, and keeps no incident open."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands: its incident's last turn while there is one, and the reports since the last one ended."""

    incident: Turned | None
    reports: Mapping[int, Sequence[Looked]]


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
    level = max((reached(reports, rule) for reports in known.values()), key=rank, default=None)
    if found.incident is None:
        return None if level is None else _turned(_name(model, now), "opened", level, now, now, known, rule)
    name, since, before = found.incident.incident, found.incident.since, found.incident.level
    if level is not None and rank(level) > rank(before):
        return _turned(name, "worse", level, now, since, known, rule)
    if all(has_recovered(of_incident(reports, since, rule.of), rule) for reports in known.values()):
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
    bad = {version: each[-1] for version, each in known.items() if each and is_bad(each[-1].severity, rule.level)}
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
