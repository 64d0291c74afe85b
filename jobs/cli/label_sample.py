"""The command `tiltyard label-sample`."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, FileOption, JsonOption, ModelArgument
from jobs.cli.progress import shown_progress
from jobs.cli.traffic_place import RootOption, beginning, traffic_tables
from jobs.printing import err
from jobs.sampling import By
from models.errors import Conflict, InvalidRequest


def label_sample(
    name: ModelArgument,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many to draw.")] = 100,
    by: Annotated[By, typer.Option(help="Each alike, or the uncertain ones more often.")] = "random",
    since: Annotated[str, typer.Option(help="Predictions since then: 24h, 30d, or a time in ISO 8601.")] = "7d",
    version: Annotated[int | None, typer.Option(min=1, help="Of this version only.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new CSV file; by default standard output.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw from what inputs were kept of, and write them there.", show_default=False
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Draws the same again.", show_default=False)] = None,
    root: RootOption = None,
    file: FileOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Draw predictions that have no feedback yet, to be labelled: fill in true_label, then `tiltyard feedback import`.

    The column weight says how many predictions each stands for. Leave it as it is: it keeps `tiltyard quality` unbiased
    whatever was drawn (docs/quality.md).

    tiltyard label-sample digits -n 100 --by uncertainty -o sample.csv
    """
    from jobs import label_sample as samples
    from jobs.kept_inputs import names, with_inputs, write_inputs

    tables = traffic_tables(root, file)
    if output is not None and output.exists():
        raise Conflict(f"{output} is there already, and may have been filled in")
    chosen = secrets.randbelow(2**31) if seed is None else seed
    wanted = samples.Wanted(name, count, by, beginning(since), datetime.now(UTC), version, chosen)
    with shown_progress() as progress:
        progress.add_task(f"drawing from {name}", total=None, status="")
        if inputs is None:
            sample, files = samples.label_sample(tables, wanted), None
        else:
            sample = samples.label_sample(tables, wanted, lambda rows: with_inputs(tables, name, rows))
            files = names(write_inputs(tables, name, sample.rows, inputs), inputs)
    text = samples.to_csv(sample.rows, files)
    if output is not None:
        _write(output, text)
    elif not as_json:
        typer.echo(text, nl=False)
    if as_json:
        rows = {} if output else {"rows": sample.rows.to_pylist()}
        drawn = sample.rows.num_rows
        print_json(
            model=name,
            drawn=drawn,
            unlabelled=sample.unlabelled,
            by=by,
            seed=chosen,
            file=output and str(output),
            **rows,
        )
        return
    err.print(
        f"{sample.rows.num_rows:,} of {sample.unlabelled:,} unlabelled predictions are drawn, with --seed {chosen}."
    )


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None
