"""`tiltyard drift-history`: the drift runs of a model, and its incidents."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from jobs.cli.carried_out import print_json
from jobs.cli.options import JsonOption, ModelArgument
from jobs.incident_file import IncidentFile
from jobs.incident_lines import Called, Line, Told, Turned
from jobs.printing import out
from models.drift_history import PAGE, runs
from models.drift_report import DriftReport, Severity, TierName
from models.monitoring import TIERS, drift_directory

_COLOURS: dict[Severity, str] = {"ok": "green", "warning": "yellow", "critical": "red", "unknown": "bright_black"}


def drift_history(
    name: ModelArgument,
    count: Annotated[int, typer.Option("--last", "-n", min=1, help="So many runs.")] = 20,
    traffic: Annotated[str, typer.Option(help="Root of the traffic log.")] = "models/traffic",
    as_json: JsonOption = False,
) -> None:
    """Print the newest drift runs of a model, and its incidents: when, how bad, who was told.

    tiltyard drift-history digits -n 5
    """
    made = list(runs(traffic, name))[-count:]
    lines = [line for line in IncidentFile(drift_directory(traffic, name)).lines() if not _is_report(line)]
    if as_json:
        print_json(
            model=name,
            runs=[{"directory": str(path), **report.model_dump(mode="json")} for path, report in made],
            incidents=[line.model_dump(mode="json") for line in lines],
        )
        return
    if not made:
        out.print(f"No drift was looked for in {name} yet.", markup=False)
        return
    table = Table("time, UTC", Column("version", justify="right"), *TIERS, "predictions", "what it says")
    for _, report in made:
        tiers = {tier.name: tier.severity for tier in report.tiers}
        table.add_row(*_row(report, tiers), escape(report.words))
    out.print(table)
    newest, _ = made[-1]
    if (newest / PAGE).exists():
        out.print(f"The newest page: {newest / PAGE}", markup=False, soft_wrap=True)
    _print_incidents(lines)


def _row(report: DriftReport, tiers: dict[TierName, Severity]) -> list[str]:
    severities = [tiers.get(name, "unknown") for name in TIERS]
    return [
        f"{report.created:%Y-%m-%d %H:%M:%S}",
        str(report.version),
        *(f"[{_COLOURS[severity]}]{severity}[/]" for severity in severities),
        f"{report.window.predictions:,}",
    ]


def _print_incidents(lines: list[Line]) -> None:
    if not lines:
        out.print("There was no incident.")
        return
    table = Table("time, UTC", "incident", "what", "")
    for line in lines:
        table.add_row(f"{line.time:%Y-%m-%d %H:%M:%S}", *map(escape, _told(line)))
    out.print(table)


def _told(line: Line) -> tuple[str, str, str]:
    match line:
        case Turned():
            return line.incident, f"{line.turn}, {line.level}", line.words
        case Told():
            return line.incident, f"told {line.target}", line.error or f"arrived, attempt {line.attempts}"
        case Called():
            return line.incident, "ran a command", line.outcome or " ".join(line.command)
    return "", "", ""


def _is_report(line: Line) -> bool:
    return line.record == "looked"
