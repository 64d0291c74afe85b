"""How drift stands with a model's versions, read from its history, and whom the guard stops for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from models.drift_notice import DriftNotice
from models.drift_report import ReferenceSource, Severity
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
        evidence=notice.model_dump(mode="json", include={"severity", "tiers", "reference", "page"}),
    )


@dataclass(frozen=True, slots=True)
class DriftStanding:
    """How bad the drift of a version was last, and what it was measured against, where that is known."""

    severity: Severity
    reference: ReferenceSource | None

    @classmethod
    def of(cls, notice: DriftNotice) -> "DriftStanding":
        """By a notice."""
        return cls(notice.severity, notice.reference)


def drift_standing(events: Sequence[Event], version: int) -> DriftStanding | None:
    """What was last written of a version's drift; None where nothing was."""
    newest = next((each for each in reversed(events) if each.action == "drift" and each.version == version), None)
    if newest is None or newest.evidence.get("severity") not in get_args(Severity):
        return None
    reference = newest.evidence.get("reference")
    return DriftStanding(newest.evidence["severity"], reference if reference in get_args(ReferenceSource) else None)


def is_stopped_by_drift(notice: DriftNotice, policy: ModelPolicy, events: Sequence[Event]) -> bool:
    """Whether a challenger or shadow has drifted as far as its guard forbids, and further than the champion.

    A champion that was measured against something else (frozen traffic, not the validation set) shows nothing.
    """
    limit = policy.guard.stop_on_drift
    if limit is None or notice.version == policy.champion or _ORDER[notice.severity] < _ORDER[limit]:
        return False
    champions = drift_standing(events, policy.champion)
    if champions is None:
        return True
    return champions.reference == notice.reference and _ORDER[champions.severity] < _ORDER[notice.severity]
