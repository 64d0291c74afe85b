"""The command that is run once for each critical incident: to retrain, say. The audit log tells of it."""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from jobs.alert_messages import payload
from jobs.alert_senders import run_command
from jobs.incident_file import IncidentFile
from jobs.incident_lines import Called, Turned
from models.drift_report import DriftReport
from models.monitoring import MonitoringSettings, OnCritical
from models.rollout import Event, History
from models.store import Store

logger = logging.getLogger("tiltyard.alerts")


def call_once(
    file: IncidentFile, turned: Turned, report: DriftReport, settings: MonitoringSettings, page: Path | None
) -> str | None:
    """Run it where the incident is critical and it was not run for it yet; why it failed, if it did.

    One that was interrupted is not run again. The report is on its standard input, as JSON. Raises OSError where it
    cannot be noted that it is run: then it is not.
    """
    on_critical = settings.on_critical
    if on_critical is None or turned.level != "critical" or turned.turn == "resolved":
        return None
    if any(isinstance(line, Called) and line.incident == turned.incident for line in file.lines()):
        return None
    file.append(_called(turned, on_critical))
    _audit(settings, report, f"drift is critical: {turned.words}", {"command": list(on_critical.command)})
    body = json.dumps(payload(turned, report, page)).encode()
    error = run_command(on_critical.command, body, on_critical.timeout_s)
    if error is not None:
        logger.error("on_critical: %s", error)
    file.append(_called(turned, on_critical, error or "success"))
    _audit(settings, report, f"the command for incident {turned.incident} ended", {"outcome": error or "success"})
    return error


def _called(turned: Turned, on_critical: OnCritical, outcome: str | None = None) -> Called:
    return Called(time=datetime.now(UTC), incident=turned.incident, command=on_critical.command, outcome=outcome)


def _audit(settings: MonitoringSettings, report: DriftReport, because: str, evidence: dict[str, object]) -> None:
    event = Event(
        model=report.model,
        version=report.version,
        action="on_critical",
        by="drift",
        because=because,
        evidence=evidence,
    )
    try:
        History(Store(settings.store), report.model).append(event)
    except OSError as error:  # retraining matters more; the incident file has it
        logger.error("the history of %s cannot be written: %s", report.model, error.strerror)
