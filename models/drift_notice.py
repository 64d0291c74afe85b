"""What those who run a model are told of a drift report: less than the whole of it."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from models.drift_report import DriftReport, ReferenceSource, Severity, TierName


class DriftNotice(BaseModel):
    """How bad a report is, in all and by tier, what it says, when it was made, and where its page lies.

    `reference` is what it was measured against; None where that is not known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    version: int
    severity: Severity
    tiers: Mapping[TierName, Severity] = {}
    reference: ReferenceSource | None = None
    words: str
    created: datetime
    page: str | None = None

    @classmethod
    def of(cls, report: DriftReport, page: str | None = None) -> "DriftNotice":
        """The notice of a report."""
        return cls(
            model=report.model,
            version=report.version,
            severity=report.severity,
            tiers={tier.name: tier.severity for tier in report.tiers},
            reference=report.reference.source,
            words=report.words,
            created=report.created,
            page=page,
        )
