"""Drift reports to render and to be told of."""

from datetime import UTC, datetime, timedelta

from models.drift_report import DriftReport, Finding, Reference, Severity, Tier, Window

CREATED = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script><!channel> & *bold* </iframe>'


def report(
    drift: Severity = "ok",
    harm: Severity = "ok",
    validity: Severity = "ok",
    *,
    hour: float = 0,
    version: int = 1,
    words: str = "brightness fell from 0.21 to 0.08",
    findings: tuple[Finding, ...] = (),
) -> DriftReport:
    """A report of the day before `hour`."""
    created = CREATED + timedelta(hours=hour)
    tiers = (
        Tier(name="validity", severity=validity, words="Every image could be read."),
        Tier(name="drift", severity=drift, words=words, findings=findings),
        Tier(name="harm", severity=harm, words="Accuracy is estimated at 97 % (95 to 98 %), as in the reference."),
    )
    order: list[Severity] = ["unknown", "ok", "warning", "critical"]
    return DriftReport(
        model="digits",
        version=version,
        created=created,
        window=Window(since=created - timedelta(days=1), until=created, rows=3000, predictions=3000),
        reference=Reference(source="validation", rows=360),
        severity=max((tier.severity for tier in tiers), key=order.index),
        words=words,
        tiers=tiers,
    )
