"""`tiltyard tune`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.options import CONFIG, DryRunOption, StoreOption, parse_version
from jobs.cli.progress import shown_progress
from jobs.frontier import RULE
from jobs.printing import err, out, print_diff, print_frontier, print_written
from jobs.tune import CALL_MS
from models.errors import InvalidRequest
from models.store import DEFAULT_ROOT, Store

TUNE = f"""Measure batch size x threads x replicas of a version here, and write the best into FILE.

    Replicas are processes that run batches of the golden inputs back to back, without Ray, HTTP and preprocessing,
    which take their share of the machine on top; what bringing a batch to a replica costs (--call-ms) is added to each.
    p99 is the time of one batch, on replicas that are never idle. Stop what else runs first.

    {RULE} With --target-p99-ms only the settings within it count."""


def tune(
    name: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="The newest version by default.")],
    version: Annotated[int | None, typer.Option(min=1, help="The same as NAME@VERSION.")] = None,
    file: Annotated[Path, typer.Option("--config", "--file", "-f", help="What is edited.")] = CONFIG,
    budget_s: Annotated[float, typer.Option(min=1, help="About how many seconds it takes.")] = 60.0,
    target_p99_ms: Annotated[
        float | None, typer.Option(help="The longest that a batch may take, of 99 in 100.", show_default=False)
    ] = None,
    call_ms: Annotated[float, typer.Option(min=0, help="What each batch costs besides the model.")] = CALL_MS,
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Write without asking.")] = False,
    store: StoreOption = DEFAULT_ROOT,
) -> None:
    """Measure, show, ask, write."""
    from jobs import change as changes
    from jobs import sizing
    from jobs.frontier import choose
    from jobs.tune import tune as measure
    from models import machine

    opened = Store(store)
    model, number = parse_version(name if version is None else f"{name}@{version}", opened)
    cores = machine.cores()
    if (busy := os.getloadavg()[0]) > cores / 2:
        err.print(f"[yellow]The machine is busy[/] (load {busy:.1f} on {cores} cores): that is measured too.")
    with shown_progress() as progress:
        task = progress.add_task(f"measuring {model} version {number}", total=1, status=f"checking {file}")
        order = sizing.served_artifact(file, opened, model, number, deployed=not dry_run)

        def show(share: float, what: str) -> None:
            progress.update(task, completed=share, status=what)

        try:
            tuning = measure(order, cores, budget_s, target_p99_ms, show, call_ms)
        except KeyboardInterrupt:
            show(1, "stopped: nothing is written")
            raise
        show(1, "done")
    try:
        choice = choose(tuning.measured, target_p99_ms, tuning.call_ms)
    except InvalidRequest:
        print_frontier(tuning, None)
        raise
    print_frontier(tuning, choice)
    setting = choice.measured.setting
    if (setting.replicas, setting.threads) in tuning.unfinished:
        raise InvalidRequest("larger batches may do better, but there was no time for them: give more --budget-s")
    with changes.alone(file):
        change = sizing.plan_setting(file, opened, model, number, setting, choice.portion)
        print_diff(change.diff)
        if dry_run or not change.diff:
            if not change.before.has(model, number):
                out.print(f"It is not deployed: [bold]tiltyard deploy {model}@{number}[/] first, then tune it again.")
            return
        if not yes and not typer.confirm(f"Write this to {file}?"):
            out.print("Nothing was written.")
            return
        changes.write(change)
    print_written(file, f"{model} version {number}", sizing.restarts(change, model, number))
