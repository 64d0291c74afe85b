"""`tiltyard alerts`: whether messages about drift arrive."""

import typer

from jobs.cli.options import CONFIG, FileOption
from jobs.printing import err, out

alerts = typer.Typer(help="Messages about drift.", no_args_is_help=True)


@alerts.callback()
def group() -> None:
    """Messages about drift."""


@alerts.command("test")
def send_trial(file: FileOption = CONFIG) -> None:
    """Send a test message to everybody whom the monitoring application of serve_config.yaml tells of drift.

    Exit status 1 where one did not arrive. Addresses that are secrets are read from this environment.
    """
    from jobs.alerts import send_test
    from jobs.monitoring_settings import read_settings

    settings = read_settings(str(file))
    if not settings.alerts:
        out.print(f"{file} names nobody to tell.", markup=False)
    outcomes = send_test(settings)
    for each in outcomes:
        if each.error is None:
            out.print(f"{each.target}: it arrived", markup=False)
        else:
            tries = f"{each.attempts} attempt{'s' if each.attempts > 1 else ''}"
            err.print(f"{each.target}: given up after {tries}: {each.error}", markup=False, soft_wrap=True)
    if any(each.error for each in outcomes):
        raise typer.Exit(1)
