"""What an alert says: one dictionary as JSON, and the same in Slack's format."""

from pathlib import Path
from typing import Any

from jobs.incident_lines import Turn, Turned
from models.drift_report import DriftReport, Severity, Tier

SCHEMA_VERSION = 1
MAX_WORDS = 1000

_COLOURS: dict[Severity, str] = {"ok": "#17693a", "warning": "#c98a00", "critical": "#a81d1d", "unknown": "#7a828c"}
_MARKS: dict[Severity, str] = {
    "ok": ":large_green_circle:",
    "warning": ":large_yellow_circle:",
    "critical": ":red_circle:",
    "unknown": ":white_circle:",
}
_TIERS = {"validity": "Validity", "drift": "Drift", "harm": "Harm"}
_SEVERITIES: dict[Severity, str] = {"ok": "ok", "warning": "warning", "critical": "critical", "unknown": "not known"}


def payload(turned: Turned, report: DriftReport, page: Path | None) -> dict[str, Any]:
    """What the JSON webhook and commands are sent. `event` is opened, worse or resolved; `report` is the whole one."""
    return {
        "schema_version": SCHEMA_VERSION,
        "event": turned.turn,
        "incident": turned.incident,
        "model": report.model,
        "versions": list(turned.versions),
        "level": turned.level,
        "since": turned.since.isoformat(),
        "time": turned.time.isoformat(),
        "title": _title(turned.turn, turned, report),
        "words": turned.words or report.words,
        "page": None if page is None else str(page),
        "report": report.model_dump(mode="json"),
    }


def slack(turned: Turned, report: DriftReport, page: Path | None) -> dict[str, Any]:
    """The same for a webhook of Slack's; attachments are what its imitators understand too."""
    severity: Severity = "ok" if turned.turn == "resolved" else turned.level
    title = _title(turned.turn, turned, report)
    lines = [_escaped(turned.words or report.words), *map(_tier, report.tiers), _window(report)]
    if page is not None:
        lines.append(f"Report: {_escaped(str(page))}")
    footer = f"{turned.incident} | version {report.version} | {report.created:%Y-%m-%d %H:%M} UTC"
    attachment = {"color": _COLOURS[severity], "text": "\n".join(lines), "fallback": title, "footer": footer}
    return {"text": f"{_MARKS[severity]} {_escaped(title)}", "attachments": [attachment]}


def trial_payload() -> dict[str, Any]:
    """What `tiltyard alerts test` sends as JSON."""
    return {"schema_version": SCHEMA_VERSION, "event": "test", "title": TEST}


def trial_slack() -> dict[str, Any]:
    """The same in Slack's format."""
    return {"text": f"{_MARKS['unknown']} {TEST}"}


TEST = "This is a test of Tiltyard's alerts: nothing has happened."


def _title(turn: Turn, turned: Turned, report: DriftReport) -> str:
    if turn == "resolved":
        return f"Resolved: {report.model} is as it was (drift since {turned.since:%Y-%m-%d %H:%M} UTC)"
    what = f"{turned.level.capitalize()}: drift of {report.model}"
    return f"{what}, worse than before" if turn == "worse" else what


def _tier(tier: Tier) -> str:
    return f"{_MARKS[tier.severity]} *{_TIERS[tier.name]}*: {_SEVERITIES[tier.severity]}. {_escaped(tier.words)}"


def _window(report: DriftReport) -> str:
    window = report.window
    rows = f"{window.predictions:,} prediction{'' if window.predictions == 1 else 's'}"
    if window.since is None or window.until is None:
        return rows
    return f"{rows}, {window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC"


def _escaped(text: str) -> str:
    """Words of others can neither mention anybody nor link anywhere.

    Source: https://docs.slack.dev/messaging/formatting-message-text/#escaping
    """
    short = text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
