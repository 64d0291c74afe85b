"""The command `tiltyard drift`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs.cli.options import CONFIG, FileOption, JsonOption, ModelArgument, StoreOption
from jobs.cli.traffic_place import up_to_now
from models.store import DEFAULT_ROOT

DRIFT = """Ask of the logged traffic: is it whole, has it changed, does that do harm (docs/drift.md).

    tiltyard drift digits
    tiltyard drift digits --since 1h --fail-on critical
    ray job submit -- tiltyard drift digits

It needs an environment of its own: `make drift`. Exit status: 0; 3 where what --fail-on names is reached; 4 where there
is no reference to compare with; 1 where it could not be done.
"""


def drift(
    name: ModelArgument,
    version: Annotated[
        int | None, typer.Option(min=1, help="Look at this one, a shadow too; by default the champion.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="How far back to look: 24h, 7d. 24h by default.", show_default=False)
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Or the last so many predictions.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for report.html and report.json; by default one below the traffic's.",
            show_default=False,
            resolve_path=True,
        ),
    ] = None,
    fail_on: Annotated[
        Literal["warning", "critical"] | None,
        typer.Option(help="End with status 3 where it is as bad as that or worse.", show_default=False),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            "--traffic",
            envvar="TILTYARD_TRAFFIC",
            help="Where the traffic is logged: a directory or s3://...; by default as FILE says.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = DEFAULT_ROOT,
    notify: Annotated[
        bool,
        typer.Option("--notify", help="Count it towards an incident, and tell whom the monitoring application names."),
    ] = False,
    settings: Annotated[
        str | None, typer.Option(help="That application's args as JSON, or - for standard input.", hidden=True)
    ] = None,
    file: FileOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """See DRIFT."""
    from jobs.drift_process import run_drift_job

    given = {
        "--root": up_to_now(root, file),
        "--version": version,
        "--since": since,
        "--window": window,
        "--out": out,
        "--fail-on": fail_on,
        "--store": store,
        "--notify": (settings or file) if notify else None,
    }
    options = [f"{option}={value}" for option, value in given.items() if value is not None]
    status = run_drift_job([name, *options, *(["--json"] if as_json else [])])
    if status:
        raise typer.Exit(status)
