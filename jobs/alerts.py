"""Tells people of drift: one message when an incident begins, one when it gets worse, one when it is over."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs.alert_messages import payload, slack, trial_payload, trial_slack
from jobs.alert_senders import Outcome, send
from jobs.incident_file import IncidentFile
from jobs.incident_lines import Line, Looked, Told, Turned, looked
from jobs.incidents import next_turn
from jobs.on_critical import call_once
from models.drift_report import DriftReport
from models.monitoring import Alert, AlertRule, MonitoringSettings, drift_directory

logger = logging.getLogger("tiltyard.alerts")

Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a report brought about: the incident's turn, if it took one, who was told, and what failed."""

    turn: Turned | None = None
    outcomes: tuple[Outcome, ...] = ()
    command_error: str | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """What was given up, in words."""
        lost = tuple(f"alert {each.target}: {each.error}" for each in self.outcomes if each.error is not None)
        return (*lost, f"on_critical: {self.command_error}") if self.command_error else lost


def notify(
    report: DriftReport, settings: MonitoringSettings, root: str, page: Path | None = None, sleep: Sleep = time.sleep
) -> Notice:
    """Note a report, tell whoever is to know, and run the command for what is critical. `root` is the traffic's.

    The same report twice counts once. What did not arrive is tried again with the next report. Raises OSError where
    nothing can be noted; then nothing is sent.
    """
    file = IncidentFile(drift_directory(root, report.model))
    with file.alone():
        turn = _note(file, report, settings)
        lines = file.lines()
        last = turn or next((line for line in reversed(lines) if isinstance(line, Turned)), None)
        if last is None:
            return Notice()
        alerts = _to_tell(lines, last, settings, is_new=turn is not None)
        outcomes = tuple(_tell(file, last, report, alert, page, sleep) for alert in alerts)
        return Notice(turn, outcomes, call_once(file, last, report, settings, page))


def send_test(settings: MonitoringSettings, sleep: Sleep = time.sleep) -> list[Outcome]:
    """Send everybody a test message."""
    return [send(each, trial_slack() if each.kind == "slack" else trial_payload(), sleep) for each in settings.alerts]


def _note(file: IncidentFile, report: DriftReport, settings: MonitoringSettings) -> Turned | None:
    """Write the report down, and the turn that it brings about. A report that is on file brings about nothing."""
    schedule = settings.schedule(report.model, report.version)
    rule = schedule.rule if schedule else AlertRule()
    new = looked(report, rule, schedule.every if schedule else None)
    lines = file.lines()
    if any(isinstance(line, Looked) and (line.time, line.version) == (new.time, new.version) for line in lines):
        return None
    turn = next_turn(report.model, [*lines, new], rule)
    file.append(new, *([turn] if turn else []))
    if turn is not None:
        logger.warning("%s: incident %s %s at %s", report.model, turn.incident, turn.turn, turn.level)
    return turn


def _to_tell(lines: Sequence[Line], turn: Turned, settings: MonitoringSettings, is_new: bool) -> list[Alert]:
    """Whoever a turn concerns and has not reached; an old end only those who were told of the incident before."""
    told = [line for line in lines if isinstance(line, Told) and line.incident == turn.incident]
    reached = {line.target for line in told if line.turn == turn.turn and line.error is None}
    involved = {line.target for line in told}
    return [
        alert
        for alert in settings.alerts
        if alert.name not in reached
        and (turn.level == "critical" or alert.level == "warning")
        and (is_new or turn.turn != "resolved" or alert.name in involved)
    ]


def _tell(
    file: IncidentFile, turn: Turned, report: DriftReport, alert: Alert, page: Path | None, sleep: Sleep
) -> Outcome:
    body = slack(turn, report, page) if alert.kind == "slack" else payload(turn, report, page)
    outcome = send(alert, body, sleep)
    told = Told(
        time=datetime.now(UTC),
        incident=turn.incident,
        turn=turn.turn,
        target=outcome.target,
        attempts=outcome.attempts,
        error=outcome.error,
    )
    file.append(told)
    return outcome
