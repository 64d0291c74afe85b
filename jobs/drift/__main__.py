"""`python -m jobs.drift`, which `tiltyard drift` starts in the environment that has Evidently."""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jobs.drift.job import PAGE, REPORT, Question, run
from jobs.drift.page_words import STATES
from jobs.notification import notify_as_configured
from models.drift_history import NO_REFERENCE
from models.drift_report import DriftReport, Severity
from models.durations import parse_duration
from models.errors import InvalidRequest, NotFound, TiltyardError
from models.store import DEFAULT_ROOT, Store
from models.traffic_tables import TrafficTables

FAILED, REACHED = 1, 3
"""Exit status after an error, and where --fail-on is reached."""

_COLOURS: dict[Severity, str] = {"ok": "green", "warning": "yellow", "critical": "red", "unknown": "dim"}
_RANK: dict[Severity, int] = {"unknown": 0, "ok": 0, "warning": 1, "critical": 2}

out, err = Console(highlight=False), Console(stderr=True, highlight=False)


def main(
    name: str,
    root: Annotated[str, typer.Option()],
    version: Annotated[int | None, typer.Option(min=1)] = None,
    since: Annotated[str | None, typer.Option()] = None,
    window: Annotated[int | None, typer.Option(min=1)] = None,
    directory: Annotated[Path | None, typer.Option("--out")] = None,
    fail_on: Annotated[str | None, typer.Option()] = None,
    store: Annotated[Path, typer.Option()] = DEFAULT_ROOT,
    notify: Annotated[str | None, typer.Option(help="Where it says who is told: see jobs.monitoring_settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Look at a model's traffic; `tiltyard drift --help` tells more."""
    try:
        question = Question(name, version, reach_of(since, window))
        report, written = run(question, TrafficTables(root), Store(store), directory, _show)
    except TiltyardError as error:
        _refuse(error, as_json)
        raise SystemExit(NO_REFERENCE if type(error) is NotFound else FAILED) from None
    if as_json:
        sys.stdout.write(json.dumps(report.model_dump(mode="json") | {"directory": str(written)}) + "\n")
    else:
        print_report(report, written)
    if notify is not None:
        _notify(report, written / PAGE, root, notify)
    if fail_on is not None and _RANK[report.severity] >= _RANK[severity_of(fail_on)]:
        raise SystemExit(REACHED)


def _notify(report: DriftReport, page: Path, root: str, source: str) -> None:
    """Tell whoever is to know; the report is there whether they could be told or not."""
    try:
        notice = notify_as_configured(report, page, root, source)
    except TiltyardError as error:
        _refuse(error, as_json=False)
        raise SystemExit(FAILED) from None
    if notice.turn is not None:
        err.print(f"incident {notice.turn.incident}: {notice.turn.turn}", markup=False)


def reach_of(since: str | None, window: int | None) -> timedelta | int:
    """How far to look back: 24 hours unless something else is said. Raises InvalidRequest."""
    if since is not None and window is not None:
        raise InvalidRequest("--since and --window are two ways to say how far to look back; give one of them")
    if window is not None:
        return window
    try:
        return parse_duration(since or "24h")
    except ValueError as error:
        raise InvalidRequest(f"--since {error}") from None


def severity_of(text: str) -> Severity:
    """Read `warning` or `critical`. Raises InvalidRequest."""
    if text == "warning":
        return "warning"
    if text == "critical":
        return "critical"
    raise InvalidRequest(f"--fail-on {text!r}: expected warning or critical")


def print_report(report: DriftReport, directory: Path) -> None:
    """Tier by tier, in words."""
    of = f"{report.window.rows:,} of {report.window.predictions:,}" if report.window.predictions else "no"
    out.print(f"[bold]{report.model}[/] version {report.version}: {of} predictions", soft_wrap=True)
    for tier in report.tiers:
        state = STATES[tier.severity]
        colour = _COLOURS[tier.severity]
        said = f"{state.mark} {tier.name:9}{tier.severity:9} "
        out.print(f"[{colour}]{said}[/]{escape(tier.words)}", soft_wrap=True)
    where = [directory / each for each in (PAGE, REPORT)]
    out.print(f"Written: {', '.join(map(str, where))} ({report.duration_s:.1f} s)", markup=False, soft_wrap=True)


def _show(text: str) -> None:
    err.print(text, style="dim", markup=False, soft_wrap=True)


def _refuse(error: TiltyardError, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message}}) + "\n")
        return
    err.print(f"[bold red]error[/] ({error.code}): {escape(error.message)}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
