"""One Delta table of the traffic, on disk or in S3: appended to by many at once, read by day and column.

Sources: https://delta-io.github.io/delta-rs/, https://github.com/delta-io/delta/blob/master/PROTOCOL.md (transaction
identifiers make an append that is tried again count once).
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from pyarrow import fs

from models.errors import TrafficUnavailable
from models.traffic import SCHEMAS, Kind, day_of
from models.traffic_fit import Rows, fitted, fitting
from models.traffic_storage import failures_typed, local_path, storage_options

T = TypeVar("T")

# Statistics are kept in the log of few columns: they are read whenever a table is opened, and those of request ids
# would outlive the records that somebody wanted deleted.
_PROPERTIES: Final = {
    "delta.dataSkippingStatsColumns": "time,version",
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 1 hours",
    "delta.deletedFileRetentionDuration": "interval 1 hours",
}
_ATTEMPTS: Final = 12
_READS: Final = 3


@dataclass(frozen=True, slots=True)
class Day:
    """One partition, as the table's log tells of it."""

    day: date
    files: int
    rows: int
    bytes: int
    first: datetime | None
    last: datetime | None


class TrafficTable:
    """One table. It exists once something was appended.

    Whatever touches the storage raises TrafficUnavailable where that fails, and Busy where others do not stop changing
    the same table.
    """

    def __init__(self, uri: str, kind: Kind) -> None:
        self.uri = uri
        self.kind = kind

    @property
    def name(self) -> str:
        """As people know it: `predictions digits`, `feedback`."""
        model = self.uri.rpartition("/")[2]
        return self.kind if self.kind == "feedback" else f"{self.kind} {model}"

    def exists(self) -> bool:
        """Whether anything was appended yet."""
        return self.opened() is not None

    def append(self, rows: Rows, transaction: tuple[str, int] | None = None) -> None:
        """Append rows (a `pa.Table`, say) in one commit; columns that are new are added to the table.

        A `transaction` is who appends and a number of its own that rises: what was appended with it already, or with a
        later number, is not appended again. Raises InvalidTraffic for rows that do not fit the table.
        """
        self.append_of(rows, dict([transaction]) if transaction else {})

    def append_of(self, rows: Rows, transactions: Mapping[str, int]) -> None:
        """Append rows that several wrote in one commit, with a transaction of each."""

        def attempt() -> None:
            table = self.opened()
            if not _has(table, transactions):
                self._write(table, rows, transactions)

        try:
            self.changed(attempt, "appending to the traffic log")
        except TrafficUnavailable:
            # The commit may stand: what failed behind it (a checkpoint) is made up for by the next one.
            if not _has(self.opened(), transactions):
                raise

    def appended(self, who: str) -> int | None:
        """The last transaction number that `who` appended; None if it never did."""
        table = self.opened()
        number: int | None = table.transaction_version(who) if table else None
        return number

    def read(
        self,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        where: pc.Expression | None = None,
    ) -> pa.Table:
        """Rows of [since, until), in no order: only the days and columns that are wanted are looked at.

        A column that the table does not have is left out; all columns without `columns`. Empty while there is nothing.
        """
        for attempt in range(_READS):
            try:
                batches = list(self.scan(columns, since, until, where))
                break
            except TrafficUnavailable:  # a file that was compacted away meanwhile, say
                if attempt == _READS - 1:
                    raise
        schema = batches[0].schema if batches else self.schema(columns)
        return pa.Table.from_batches(batches, schema)

    def scan(
        self,
        columns: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = 65_536,
    ) -> Iterator[pa.RecordBatch]:
        """What `read` reads, a batch of at most `batch_rows` at a time, in memory that does not grow with their number.

        None is empty. Only few files are open at a time, so a table of any size can be gone through.
        """
        with failures_typed("reading the traffic log"):
            dataset = self._dataset()
            if dataset is None:
                return
            scanner = dataset.scanner(
                columns=self.schema(columns).names if columns is not None else None,
                filter=within(since, until, where),
                batch_size=batch_rows,
                batch_readahead=2,
                fragment_readahead=2,
            )
            for batch in scanner.to_batches():
                if batch.num_rows:
                    yield batch

    def schema(self, columns: Sequence[str] | None = None) -> pa.Schema:
        """Columns of the table, or those of `columns` that it has, in their order."""
        table = self.opened()
        there = pa.schema(table.schema().to_arrow()) if table else SCHEMAS[self.kind]
        if columns is None:
            return there
        return pa.schema([there.field(name) for name in dict.fromkeys(columns) if name in there.names])

    def days(self) -> list[Day]:
        """Every partition, oldest first; only the table's log is read."""
        table = self.opened()
        if table is None:
            return []
        files = pa.table(table.get_add_actions(flatten=True))
        if not files.num_rows:
            return []
        summed = files.group_by("partition.day").aggregate(
            [
                ("path", "count"),
                ("num_records", "sum"),
                ("size_bytes", "sum"),
                ("min.time", "min"),
                ("max.time", "max"),
            ]
        )
        names = ("partition.day", "path_count", "num_records_sum", "size_bytes_sum", "min.time_min", "max.time_max")
        return sorted((Day(*values) for values in zip(*(summed[n].to_pylist() for n in names), strict=True)), key=_day)

    def changed(self, attempt: Callable[[], T], what: str) -> T:
        """Do what commits, again where somebody else committed in between. Raises Busy after a minute or so."""
        for number in range(1, _ATTEMPTS):
            try:
                with failures_typed(what):
                    return _unless_conflict(attempt)
            except _Conflict:
                time.sleep(random.uniform(0, min(0.05 * 2**number, 10)))
        with failures_typed(what):
            return attempt()

    def opened(self) -> DeltaTable | None:
        """The table as it is now; None where there is none yet."""
        with failures_typed("opening the traffic log"):
            if (path := local_path(self.uri)) is not None and not Path(path, "_delta_log").is_dir():
                return None
            try:
                return DeltaTable(self.uri, storage_options=storage_options(self.uri))
            except TableNotFoundError:
                return None

    def _write(self, table: DeltaTable | None, rows: Rows, transactions: Mapping[str, int]) -> None:
        there = pa.schema(table.schema().to_arrow()) if table else SCHEMAS[self.kind]
        schema = fitting(rows.schema, there)
        write_deltalake(
            table or self.uri,
            fitted(rows, schema),
            mode="append",
            schema_mode="merge",
            partition_by=["day"],
            configuration=None if table else dict(_PROPERTIES),
            storage_options=storage_options(self.uri),
            commit_properties=CommitProperties(
                app_transactions=[Transaction(who, number) for who, number in transactions.items()]
            ),
        )

    def _dataset(self) -> ds.Dataset | None:
        table = self.opened()
        if table is None:
            return None
        path = local_path(self.uri)
        # pyarrow's own file system reads a local file without the interpreter's lock.
        return table.to_pyarrow_dataset(filesystem=fs.SubTreeFileSystem(path, fs.LocalFileSystem()) if path else None)


def _has(table: DeltaTable | None, transactions: Mapping[str, int]) -> bool:
    """Whether all of these were appended."""
    if table is None or not transactions:
        return False
    last = {who: table.transaction_version(who) for who in transactions}
    return all(last[who] is not None and last[who] >= number for who, number in transactions.items())


class _Conflict(Exception):
    """Somebody else committed in between."""


def _unless_conflict(attempt: Callable[[], T]) -> T:
    try:
        return attempt()
    except CommitFailedError:
        raise _Conflict from None


def _day(day: Day) -> date:
    return day.day


def within(since: datetime | None, until: datetime | None, where: pc.Expression | None = None) -> pc.Expression | None:
    """The filter of [since, until), by partition and by time."""
    conditions = [where] if where is not None else []
    if since is not None:
        conditions += [ds.field("day") >= _day_scalar(since), ds.field("time") >= _scalar(since)]
    if until is not None:
        conditions += [ds.field("day") <= _day_scalar(until), ds.field("time") < _scalar(until)]
    if not conditions:
        return None
    both = conditions[0]
    for condition in conditions[1:]:
        both = both & condition
    return both


def _day_scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(day_of(time.astimezone(UTC)))


def _scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(time, pa.timestamp("us", tz="UTC"))
