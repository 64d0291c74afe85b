"""`tiltyard traffic`: what is remembered of the traffic, and what is done with it."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobs.cli.carried_out import print_json
from jobs.cli.options import CONFIG, FileOption, JsonOption, ModelArgument
from jobs.cli.progress import shown_progress
from jobs.cli.traffic_place import SPOOL_VARIABLE, RootOption, beginning, log_settings, traffic_tables
from jobs.printing import out
from models.errors import InvalidRequest

_WAIT_S = 60.0

SpoolOption = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        envvar=SPOOL_VARIABLE,
        help="Where Routers of this machine write first; by default as FILE says, of a --root its .spool.",
        show_default=False,
    ),
]
Since = Annotated[str | None, typer.Option(help="From then on: 24h or 7d ago, or 2026-11-21T18:00.")]
Until = Annotated[str | None, typer.Option(help="Until before then: 1h ago, or 2026-11-21T18:00.")]
RetentionOption = Annotated[
    int | None, typer.Option("--retention-days", min=1, help="Remove older days.", show_default="as FILE says")
]
InputsRetentionOption = Annotated[
    int | None, typer.Option("--inputs-retention-days", min=1, help="Of inputs.", show_default="as FILE says")
]


class ShowByDefault(TyperGroup):
    """What is no command is the name of a model to show."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `show` before anything that is neither a command nor --help."""
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["show", *args]
        return super().parse_args(ctx, args)


traffic = typer.Typer(
    cls=ShowByDefault,
    help="""Show what is remembered of the traffic; export, append, compact or delete it.

    tiltyard traffic digits

    tiltyard traffic export digits --since 24h -o day.parquet

    Every prediction is a row of a Delta table, partitioned by day; docs/traffic.md has the columns.
    """,
    subcommand_metavar="NAME | COMMAND [ARGS]...",
)


@traffic.command()
def show(
    name: Annotated[str | None, typer.Argument(help="Name of the model; all of them by default.")] = None,
    file: FileOption = CONFIG,
    root: RootOption = None,
    spool: SpoolOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows, span, size and files, counts by version, and every record that was lost, with the reason.

    This is what `tiltyard traffic NAME` does. What Routers on other machines have spooled or lost is told there.

    tiltyard traffic digits --json
    """
    from jobs.traffic_printing import print_summaries, print_summary
    from jobs.traffic_summary import known_models, summarize
    from models.traffic_spooled import Spool
    from models.traffic_tables import TrafficTables

    settings = log_settings(file, root, spool)
    tables, spooled = TrafficTables(settings.root_uri), Spool(settings.spool_path)
    names = [name] if name is not None else known_models(tables, spooled)
    found = [summarize(tables, spooled, each) for each in names]
    if as_json:
        print_json(root=settings.root_uri, models=[asdict(each) for each in found])
    elif name is not None:
        print_summary(found[0])
    elif found:
        print_summaries(found)
    else:
        out.print(f"No traffic was logged at {settings.root_uri} yet.", markup=False, soft_wrap=True)


@traffic.command()
def export(
    name: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file: its name ends with .parquet or .csv.")],
    since: Since = None,
    until: Until = None,
    columns: Annotated[str | None, typer.Option(help="Only these: time,label,confidence")] = None,
    table: Annotated[str, typer.Option(help="predictions, inputs or feedback.")] = "predictions",
    file: FileOption = CONFIG,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write logged predictions into one file, for anything that reads Parquet or CSV.

    They are streamed, so any number fits into memory. What Routers of this machine have spooled is appended first.

    tiltyard traffic export digits --since 24h -o day.parquet

    tiltyard traffic export digits --columns time,version,label,confidence -o labels.csv
    """
    from jobs.traffic_export import export as exported

    if table not in ("predictions", "inputs", "feedback"):
        raise InvalidRequest(f"--table {table!r}: expected predictions, inputs or feedback")
    tables = traffic_tables(root, file)
    tables.known(name)
    wanted = [column.strip() for column in columns.split(",")] if columns else None
    first, last = _moment(since), _moment(until)
    source = tables.table(table, name)  # type: ignore[arg-type]
    total = sum(day.rows for day in source.days() if _overlaps(day.first, day.last, first, last))
    with shown_progress() as progress:
        task = progress.add_task("exporting", total=total, status="")
        rows = exported(source, output, wanted, first, last, lambda count: progress.advance(task, count))
    if as_json:
        print_json(model=name, table=table, file=str(output), rows=rows)
    else:
        out.print(f"{rows:,} rows written to {output}.", markup=False, soft_wrap=True)


@traffic.command()
def append(
    file: FileOption = CONFIG,
    root: RootOption = None,
    spool: SpoolOption = None,
    retention_days: RetentionOption = None,
    inputs_retention_days: InputsRetentionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move everything that is spooled into the tables now.

    Routers have it done every five minutes, and so do commands that read the tables. It takes what any process has
    spooled, also one that was killed, and nothing twice; it can be killed itself at any time. It also removes days that
    are too old, and compacts one that has too many files.

    tiltyard traffic append
    """
    from jobs.traffic_append import alone, append_spooled
    from jobs.traffic_printing import print_appended
    from models.traffic_spooled import Spool
    from models.traffic_tables import TrafficTables

    settings = log_settings(file, root, spool, retention_days, inputs_retention_days)
    spooled = Spool(settings.spool_path)
    with alone(spooled):
        done = append_spooled(TrafficTables(settings.root_uri), spooled, settings.retention)
    if as_json:
        print_json(**asdict(done))
    else:
        print_appended(done)


@traffic.command()
def compact(
    name: Annotated[str | None, typer.Argument(help="Name of the model; all of them by default.")] = None,
    file: FileOption = CONFIG,
    root: RootOption = None,
    retention_days: RetentionOption = None,
    inputs_retention_days: InputsRetentionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make few large files of many small ones, at most 9 a day, and remove days that are too old.

    Routers have the most of this done as they append, so it need not be scheduled. Others may read and append
    meanwhile; files that were replaced are deleted an hour later, with the next compaction.

    tiltyard traffic compact digits
    """
    from jobs.traffic_compact import compact as compacted
    from jobs.traffic_printing import print_compactions
    from models.traffic_tables import TrafficTables

    settings = log_settings(file, root, None, retention_days, inputs_retention_days)
    tables, now = TrafficTables(settings.root_uri), datetime.now(UTC)
    if name is not None:
        tables.known(name)
    each = [tables.feedback()] if name is None else []
    for model in [name] if name is not None else tables.models():
        each += [tables.predictions(model), tables.inputs(model)]
    with shown_progress() as progress:
        task = progress.add_task("compacting", total=len(each), status="")
        done = []
        for table in each:
            progress.update(task, status=table.name)
            if table.exists():
                done.append(compacted(table, settings.retention.get(table.kind), now))
            progress.advance(task)
    if as_json:
        print_json(tables=[asdict(one) for one in done])
    else:
        print_compactions(done)


@traffic.command()
def delete(
    name: ModelArgument,
    request_id: Annotated[list[str], typer.Option("--request-id", help="Of a request; may be given again.")],
    file: FileOption = CONFIG,
    root: RootOption = None,
    spool: SpoolOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete everything that is logged of some requests: predictions, inputs and feedback.

    What is spooled is appended first. The files that held them are deleted at once, so whoever reads them at that
    moment has to read again. Copies that were made before are not found: an export, a frozen reference.

    tiltyard traffic delete digits --request-id 3f6c --request-id 9ab1
    """
    from jobs.traffic_append import alone, append_spooled
    from jobs.traffic_delete import delete_requests
    from models.traffic_spooled import Spool
    from models.traffic_tables import TrafficTables

    settings = log_settings(file, root, spool)
    tables, spooled = TrafficTables(settings.root_uri), Spool(settings.spool_path)
    if spooled.path.is_dir():
        with alone(spooled, _WAIT_S):
            append_spooled(tables, spooled, {})
    tables.known(name)
    deleted = delete_requests(tables, name, request_id)
    if as_json:
        print_json(model=name, deleted=deleted)
    else:
        out.print(f"Deleted: {', '.join(f'{count:,} {kind}' for kind, count in deleted.items())}.")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else beginning(text)


def _overlaps(first: datetime | None, last: datetime | None, since: datetime | None, until: datetime | None) -> bool:
    is_before = since is not None and last is not None and last < since
    is_after = until is not None and first is not None and first >= until
    return not (is_before or is_after)
