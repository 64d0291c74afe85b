"""The lines of a model's `incidents.jsonl`: reports, turns of its incidents, who was told, and what was called."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from models.drift_report import DriftReport, Severity, TierName, worst
from models.monitoring import AlertRule, Level

Turn = Literal["opened", "worse", "resolved"]


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
