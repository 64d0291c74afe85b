"""What `tiltyard traffic` prints."""

from datetime import datetime

from rich.table import Column, Table

from jobs.number_words import percent
from jobs.printing import out
from jobs.traffic_append import Appended
from jobs.traffic_compact import Compaction
from jobs.traffic_summary import Extent, Group, Summary

_REASONS = {
    "buffer_full": "memory was full: more came than the disk took",
    "disk": "the disk failed or was full",
    "spool_full": "the spool was full: nothing moved it into the tables",
    "not_taken": "a bug where they were offered",
    "error": "they could not be made into records",
    "shutdown": "the disk failed while the Router ended",
    "kill": "a Router was killed with them in memory",
}


def print_summaries(summaries: list[Summary]) -> None:
    """Print a line for each model."""
    table = Table("model", *(Column(name, justify="right") for name in ("rows", "size", "lost")), "from", "to")
    for each in summaries:
        held = each.predictions
        lost = f"{sum(each.lost.values()):,}"
        table.add_row(each.model, f"{held.rows:,}", size(held.bytes), lost, _time(held.first), _time(held.last))
    out.print(table)


def print_summary(summary: Summary) -> None:
    """Print all that is known of a model's traffic."""
    grid = Table.grid(padding=(0, 2))
    for name, words in _told(summary):
        grid.add_row(name, words)
    out.print(f"[bold]{summary.model}[/]")
    out.print(grid)
    if summary.groups:
        out.print(_group_table(summary.groups))


def print_appended(done: Appended) -> None:
    """Print what was moved."""
    if not done.rows and not done.set_aside:
        out.print("Nothing is spooled.")
    for stream, rows in done.rows.items():
        out.print(f"{stream}: {rows:,} rows appended", markup=False)
    if done.set_aside:
        out.print(f"[yellow]{done.set_aside} files could not be appended[/] and are set aside in the spool.")


def print_compactions(done: list[Compaction]) -> None:
    """Print what became of each table."""
    numbers = ("files", "size", "old rows", "deleted files")
    table = Table("table", *(Column(name, justify="right") for name in numbers))
    for each in done:
        table.add_row(
            each.table,
            f"{each.files_before:,} → {each.files_after:,}",
            f"{size(each.bytes_before)} → {size(each.bytes_after)}",
            f"{each.rows_removed:,}",
            f"{each.files_deleted:,}",
        )
    out.print(table)


def size(count: int) -> str:
    """`812 kB`, `1.2 GB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _told(summary: Summary) -> list[tuple[str, str]]:
    told = [("predictions", _extent(summary.predictions))]
    if summary.predictions.rows:
        told.append(("", f"{_time(summary.predictions.first)} to {_time(summary.predictions.last)} UTC"))
    if summary.inputs.rows:
        told.append(("inputs", _extent(summary.inputs)))
    if summary.feedback.rows:
        told.append(("feedback", f"{_extent(summary.feedback)}, of all models"))
    told.append(("on their way", f"{summary.spooled:,} spooled, {summary.buffered:,} in memory"))
    if summary.sampled_out:
        told.append(("left out", f"{summary.sampled_out:,} by sampling; the others weigh more for them"))
    told.append(("lost", f"{sum(summary.lost.values()):,}"))
    told += [("", f"{count:,}: {_REASONS.get(reason, reason)}") for reason, count in summary.lost.items()]
    if summary.set_aside:
        told.append(("set aside", f"{summary.set_aside:,} files of the spool that fit no table"))
    return told


def _extent(held: Extent) -> str:
    if not held.rows:
        return "none yet"
    files = f"{held.files:,} files (at most {held.most_files_a_day} a day)"
    return f"{held.rows:,} rows, {size(held.bytes)} in {files}, {held.days:,} days"


def _group_table(groups: list[Group]) -> Table:
    names = ("rows", "predictions", "share", "from cache")
    table = Table("version", "variant", "status", *(Column(name, justify="right") for name in names))
    total = sum(group.predictions for group in groups)
    for group in groups:
        table.add_row(
            str(group.version),
            group.variant,
            group.status,
            f"{group.rows:,}",
            f"{group.predictions:,.0f}",
            percent(group.predictions / total if total else 0.0),
            f"{group.cache_hits:,}",
        )
    return table


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
