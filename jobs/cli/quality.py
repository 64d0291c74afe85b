"""The command `tiltyard quality`."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, FileOption, JsonOption, ModelArgument
from jobs.cli.progress import shown_progress
from jobs.cli.traffic_place import RootOption, beginning, traffic_tables
from jobs.printing import out
from jobs.quality import By, Quality
from models.errors import InvalidRequest


def quality(
    name: ModelArgument,
    since: Annotated[str, typer.Option(help="Predictions since then: 24h, 30d, or a time in ISO 8601.")] = "30d",
    by: Annotated[By, typer.Option(help="How long the steps of the trend are.")] = "day",
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a page for people who were not there.", show_default=False),
    ] = None,
    root: RootOption = None,
    file: FileOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Tell how good a model's answers are, by feedback: accuracy, confusion, calibration, of each version, over time.

    Sampled traffic and drawn labels count as often as they stand for a prediction (docs/quality.md).

    tiltyard quality digits --since 7d --html quality.html
    """
    from jobs.quality import quality as measure
    from jobs.quality_table import print_quality

    tables, start = traffic_tables(root, file), beginning(since)
    with shown_progress() as progress:
        task = progress.add_task(f"quality of {name}", total=None, status="")
        found = measure(tables, name, start, datetime.now(UTC), by, lambda what: progress.update(task, status=what))
    if html is not None:
        _write_page(found, html)
    if as_json:
        print_json(**asdict(found))
        return
    print_quality(found)
    if html is not None:
        out.print(f"The page is written to {html}", markup=False, soft_wrap=True)


def _write_page(found: Quality, path: Path) -> None:
    from jobs.quality_page import quality_page

    try:
        path.write_text(quality_page(found), encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"--html {path}: {error.strerror}") from None
