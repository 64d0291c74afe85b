"""How drift stands with a model's versions, read from its history, and whom the guard stops for it."""

from collections.abc import Sequence
from typing import get_args

from models.drift_notice import DriftNotice
from models.drift_report import Severity
from models.policy import ModelPolicy
from models.rollout import Event

_ORDER: dict[Severity, int] = {"unknown": 0, "ok": 0, "warning": 1, "critical": 2}


def drift_event(notice: DriftNotice) -> Event:
    """What the history says of a notice."""
    return Event(
        time=notice.created,
        model=notice.model,
        version=notice.version,
        action="drift",
        by="drift",
        because=f"{notice.severity}: {notice.words}",
        evidence=notice.model_dump(mode="json", include={"severity", "tiers", "page"}),
    )


def drift_severity(events: Sequence[Event], version: int) -> Severity | None:
    """What was last written of a version's drift; None where nothing was."""
    newest = next((each for each in reversed(events) if each.action == "drift" and each.version == version), None)
    said = newest.evidence.get("severity") if newest is not None else None
    return said if said in get_args(Severity) else None


def is_stopped_by_drift(notice: DriftNotice, policy: ModelPolicy, events: Sequence[Event]) -> bool:
    """Whether a challenger or shadow has drifted as far as its guard forbids, and further than the champion."""
    limit = policy.guard.stop_on_drift
    if limit is None or notice.version == policy.champion or _ORDER[notice.severity] < _ORDER[limit]:
        return False
    champions = drift_severity(events, policy.champion)
    return champions is None or _ORDER[champions] < _ORDER[notice.severity]
