"""Fewer, larger files in the tables of the traffic, and an end to what is older than is wanted."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from deltalake import DeltaTable, WriterProperties

from models.traffic import day_of
from models.traffic_table import Day, TrafficTable

MAX_FILES = 9
"""A day has no more files than these once it was compacted, however large it is."""

MAX_FILES_TODAY = 64
"""A day that is still written to is compacted where it has more files, by whoever appends."""

READERS_HOURS = 1
"""Files that were replaced are kept so long, for those who began to read them."""

_ORPHANS_HOURS = 24  # an append takes seconds: what no commit names by then is of one that was killed
_LARGE_BYTES = 128 * 1024**2
_SMALL_BYTES = 16 * 1024**2
# Of a large day what is merged so far is kept, should the rest be killed.
_COMMIT_PERIOD = timedelta(seconds=20)
# Rows of a group are read together: small enough for a reader of few columns, and to skip those of other hours.
_WRITER = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=131_072)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What became of one table: its files before and after, what was too old, what was removed from the storage."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    days_removed: int
    rows_removed: int
    files_deleted: int


def compact(table: TrafficTable, retention_days: int | None, now: datetime) -> Compaction:
    """Remove days that are too old, make one to `MAX_FILES` files of each other, delete what that replaced.

    Others may append and read meanwhile. Raises Busy, TrafficUnavailable.
    """
    before = table.days()
    removed = remove_old(table, retention_days, now)
    for day in table.days():
        if day.files > 1:
            _merge(table, day, max(_LARGE_BYTES, day.bytes // 4))
    deleted = clean(table)
    _shorten_log(table)
    after = table.days()
    return Compaction(
        table=table.name,
        files_before=sum(day.files for day in before),
        files_after=sum(day.files for day in after),
        bytes_before=sum(day.bytes for day in before),
        bytes_after=sum(day.bytes for day in after),
        days_removed=len(removed),
        rows_removed=sum(day.rows for day in removed),
        files_deleted=deleted,
    )


def tidy(table: TrafficTable, retention_days: int | None, now: datetime) -> bool:
    """Do the most pressing part of `compact`, if there is any; returns whether there was.

    It reads the table's log, and rewrites at most one day: one that is over (once, as a rule), or the small files of
    today. So whoever appends can do it every time.
    """
    days, today = table.days(), day_of(now)
    if remove_old(table, retention_days, now, days):
        clean(table)
        return True
    for day in days:
        is_over = day.day < today
        if day.files > (MAX_FILES if is_over else MAX_FILES_TODAY):
            # Two neighbours together exceed the target, so there are at most twice as many files as it fits the day.
            target = max(_LARGE_BYTES, day.bytes // 4) if is_over else max(_SMALL_BYTES, day.bytes // 8)
            _merge(table, day, target)
            vacuum(table, READERS_HOURS)
            return True
    return False


def remove_old(
    table: TrafficTable, retention_days: int | None, now: datetime, days: list[Day] | None = None
) -> list[Day]:
    """Drop whole days that ended more than `retention_days` ago; returns them."""
    if retention_days is None:
        return []
    first: date = day_of(now - timedelta(days=retention_days))
    old = [day for day in (table.days() if days is None else days) if day.day < first]
    if old:
        _commit(table, lambda opened: opened.delete(f"day < '{first.isoformat()}'"), "removing old days")
    return old


def clean(table: TrafficTable) -> int:
    """Delete the files that nobody reads any more, and those that were never a part of the table; how many there were.

    Files that were replaced just now stay: it is for whoever comes an hour later.
    """
    return vacuum(table, READERS_HOURS) + vacuum(table, _ORPHANS_HOURS, orphans=True)


def vacuum(table: TrafficTable, hours: int, orphans: bool = False) -> int:
    """Delete the files that were replaced so many hours ago, or with `orphans` what no commit names."""

    def attempt(opened: DeltaTable) -> int:
        return len(opened.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=orphans))

    return int(_commit(table, attempt, "deleting replaced files") or 0)


def _merge(table: TrafficTable, day: Day, target: int) -> None:
    def attempt(opened: DeltaTable) -> None:
        opened.optimize.compact(
            partition_filters=[("day", "=", day.day.isoformat())],
            target_size=target,
            max_concurrent_tasks=1,
            min_commit_interval=_COMMIT_PERIOD,
            writer_properties=_WRITER,
        )

    _commit(table, attempt, "compacting the traffic log")


def _shorten_log(table: TrafficTable) -> None:
    def attempt(opened: DeltaTable) -> None:
        opened.create_checkpoint()
        opened.cleanup_metadata()

    _commit(table, attempt, "writing a checkpoint")


def _commit(table: TrafficTable, attempt: Any, what: str) -> Any:
    def on_the_newest() -> Any:
        opened = table.opened()
        return attempt(opened) if opened is not None else None

    return table.changed(on_the_newest, what)
