"""What is spooled, moved into the tables of the traffic: by whom it was written, dead or alive, and never twice.

A short-lived process of a Router does this every five minutes, so that a Router need not load deltalake. Whenever it is
killed, the next one goes on: a table remembers the number of the last file that it took of each writer, in the commit
that took it, and files are deleted behind that.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from jobs.traffic_compact import clean, tidy
from models.errors import Busy, InvalidTraffic, TiltyardError
from models.traffic import Kind
from models.traffic_fit import fit
from models.traffic_spool import Stream
from models.traffic_spooled import SWEPT, Spool, SpooledFile, SpooledWriter
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables

log = logging.getLogger(__name__)

SET_ASIDE = ".set-aside"
"""Of the spool: files that cannot be read, or that their table refuses."""

Retention = dict[Kind, int]
"""Days, by kind; those of others are kept for ever."""


@dataclass(slots=True)
class Appended:
    """What was done: rows by stream, files that were set aside, writers whose directories went, tables tidied."""

    rows: dict[str, int] = field(default_factory=dict)
    files: int = 0
    set_aside: int = 0
    writers_gone: int = 0
    tidied: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Left:
    """Files of one writer that one table is to take."""

    writer: SpooledWriter
    files: list[SpooledFile]


class SpooledRows:
    """The records of files, read anew each time; the first type of each column that is not empty counts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        fields: dict[str, pa.Field] = {}
        for path in paths:
            for each in pq.read_schema(path):
                if each.name not in fields or pt.is_null(fields[each.name].type):
                    fields[each.name] = each
        self.schema = pa.schema(list(fields.values()))

    def to_reader(self) -> pa.RecordBatchReader:
        """All records, from the first."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches())

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return sum(pq.read_metadata(path).num_rows for path in self._paths)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for path in self._paths:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield fit(batch, self.schema)


@contextmanager
def alone(spool: Spool, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only one that moves this spool on. Raises Busy where somebody is for longer."""
    deadline = time.monotonic() + wait_s
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(spool.locked())
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy("another process is moving this spool into the tables; try again then") from None
                time.sleep(0.1)
        yield


def append_spooled(tables: TrafficTables, spool: Spool, retention: Retention, now: datetime | None = None) -> Appended:
    """Move all that is spooled into the tables, one commit each, and put away the writers that are gone.

    Once an hour, where there is a `retention`, all tables are tidied, also those that nothing was appended to.
    The spool must be held (`alone`). A table that cannot be written keeps the others from nothing; what failed first is
    raised at the end.
    """
    done, failures = Appended(), list[TiltyardError]()
    now = now or datetime.now(UTC)

    def tidied(stream: Stream, left: list[_Left], is_swept: bool = False) -> None:
        table = tables.table(stream.kind, stream.model or "")
        try:
            _append(table, stream, left, spool, done)
            if tidy(table, retention.get(stream.kind), now):
                done.tidied.append(stream.name)
            if is_swept:
                clean(table)
        except TiltyardError as error:
            log.warning("%s: %s", stream.name, error.message)
            failures.append(error)

    with ExitStack() as stack:
        writers = [(writer, stack.enter_context(writer.held())) for writer in spool.writers()]
        for stream, left in _by_stream([writer for writer, _ in writers]).items():
            tidied(stream, left)
        for writer, is_gone in writers:
            if is_gone and not writer.streams():
                spool.put_away(writer)
                done.writers_gone += 1
    if retention and spool.sweep_is_due():
        for stream in _streams(tables):
            tidied(stream, [], is_swept=True)
        (spool.path / SWEPT).touch()
    if failures:
        raise failures[0]
    return done


def _streams(tables: TrafficTables) -> list[Stream]:
    """Of all tables."""
    kinds: tuple[Kind, ...] = ("predictions", "inputs")
    return [Stream("feedback"), *(Stream(kind, model) for model in tables.models() for kind in kinds)]


def _by_stream(writers: list[SpooledWriter]) -> dict[Stream, list[_Left]]:
    left: dict[Stream, list[_Left]] = {}
    for writer in writers:
        for stream in writer.streams():
            if files := writer.files(stream):
                left.setdefault(stream, []).append(_Left(writer, files))
    return left


def _append(table: TrafficTable, stream: Stream, left: list[_Left], spool: Spool, done: Appended) -> None:
    new = [_Left(each.writer, _not_taken(table, each)) for each in left]
    new = [_Left(each.writer, _readable(each, stream, spool, done)) for each in new]
    new = [each for each in new if each.files]
    if not new:
        return
    try:
        _commit(table, stream, new, done)
    except InvalidTraffic:
        _one_by_one(table, stream, new, spool, done)


def _commit(table: TrafficTable, stream: Stream, left: list[_Left], done: Appended) -> None:
    """One commit of everything, so that tables have few files."""
    paths = [file.path for each in left for file in each.files]
    rows = SpooledRows(paths)
    count = rows.num_rows
    table.append_of(rows, {each.writer.name: each.files[-1].number for each in left})
    done.rows[stream.name] = done.rows.get(stream.name, 0) + count
    done.files += len(paths)
    for path in paths:
        path.unlink()


def _one_by_one(table: TrafficTable, stream: Stream, left: list[_Left], spool: Spool, done: Appended) -> None:
    """Append what can be, in the order of each writer, and set the rest aside."""
    for each in left:
        for file in each.files:
            try:
                _commit(table, stream, [_Left(each.writer, [file])], done)
            except InvalidTraffic as error:
                _set_aside(each.writer, stream, file, spool, error)
                done.set_aside += 1


def _not_taken(table: TrafficTable, left: _Left) -> list[SpooledFile]:
    """Those that the table has not taken yet; the others are deleted, which somebody was kept from."""
    last = table.appended(left.writer.name) or 0
    for file in left.files:
        if file.number <= last:
            file.path.unlink()
    return [file for file in left.files if file.number > last]


def _readable(left: _Left, stream: Stream, spool: Spool, done: Appended) -> list[SpooledFile]:
    readable = []
    for file in left.files:
        try:
            pq.read_schema(file.path)
        except pa.ArrowInvalid as error:
            _set_aside(left.writer, stream, file, spool, error)
            done.set_aside += 1
        else:
            readable.append(file)
    return readable


def _set_aside(writer: SpooledWriter, stream: Stream, file: SpooledFile, spool: Spool, error: Exception) -> None:
    log.warning("%s of %s is set aside: %s", file.path.name, stream.name, type(error).__name__)
    there = spool.path / SET_ASIDE / stream.name / f"{writer.name}-{file.path.name}"
    there.parent.mkdir(parents=True, exist_ok=True)
    file.path.rename(there)
