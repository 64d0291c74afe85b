"""`tiltyard feedback`: what requests' classes really were."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, FileOption, JsonOption
from jobs.cli.progress import shown_progress
from jobs.cli.traffic_place import RootOption, traffic_tables
from jobs.printing import out

feedback = typer.Typer(help="Tell what requests' classes really were.", no_args_is_help=True)


@feedback.callback()
def _group() -> None:
    """A group of one command stays a group."""


@feedback.command(name="import")
def import_(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="CSV or Parquet: request_id, label.")],
    again: Annotated[
        bool, typer.Option("--again", help="Import a file that was imported before once more, as the newest.")
    ] = False,
    root: RootOption = None,
    file: FileOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Import labels from a file; the newest label of a request counts.

    Columns: request_id, label; optionally item (of requests with many images), time (when it was known; by default
    now) and weight. A sample of `tiltyard label-sample` is taken as it is, once its column true_label is filled in.
    The same file again changes nothing. Labels of requests that are not in the log are kept.

    tiltyard feedback import labels.csv
    """
    from jobs.feedback_import import import_labels

    tables = traffic_tables(root, file)
    with shown_progress() as progress:
        task = progress.add_task(f"importing {labels.name}", total=None, status="")
        done = import_labels(tables, labels, datetime.now(UTC), again, lambda what: progress.update(task, status=what))
    if as_json:
        print_json(**asdict(done))
        return
    if done.repeated:
        out.print(f"{done.file} was imported before, nothing is changed. --again makes it the newest.", markup=False)
    else:
        out.print(f"{done.labels:,} labels of {done.requests:,} requests are imported.", markup=False)
    if done.unlabelled:
        out.print(f"{done.unlabelled:,} rows of the sample have no true_label yet.")
    if done.unknown:
        out.print(f"{done.unknown:,} requests are not in the log; their labels count if they still come.")
