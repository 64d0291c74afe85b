"""The Delta tables of the traffic, on disk or in S3: appended to by many at once, read by day and column.

Sources: https://delta-io.github.io/delta-rs/, https://github.com/delta-io/delta/blob/master/PROTOCOL.md (transaction
identifiers make an append that is tried again count once).
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from models.store import check_name
from models.traffic import SCHEMAS, Kind


class TrafficTables:
    """All tables under one root: a directory, or `s3://bucket/prefix` with the usual AWS_* variables."""

    def __init__(self, root: str) -> None:
        self.root = root if "://" in root else str(Path(root).resolve())

    def predictions(self, model: str) -> "TrafficTable":
        """What was asked of a model, and answered."""
        return TrafficTable(f"{self.root}/predictions/{check_name(model)}", "predictions")

    def inputs(self, model: str) -> "TrafficTable":
        """The inputs that were kept."""
        return TrafficTable(f"{self.root}/inputs/{check_name(model)}", "inputs")

    def feedback(self) -> "TrafficTable":
        """True classes by request id, of all models."""
        return TrafficTable(f"{self.root}/feedback", "feedback")


class TrafficTable:
    """One table. It exists once something was appended."""

    def __init__(self, uri: str, kind: Kind) -> None:
        self.uri = uri
        self.kind = kind

    def append(self, rows: pa.Table, transaction: tuple[str, int] | None = None) -> None:
        """Append rows; columns that are new are added to the table.

        A `transaction` is who appends and a number of its own that rises; see `appended`. Raises deltalake's errors.
        """
        properties = CommitProperties(app_transactions=[Transaction(*transaction)]) if transaction else None
        write_deltalake(
            self.uri, rows, mode="append", schema_mode="merge", partition_by=["day"], commit_properties=properties
        )

    def appended(self, who: str) -> int | None:
        """The last transaction number that `who` appended; None if it never did."""
        table = self._open()
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
        table = self._open()
        if table is None:
            schema = SCHEMAS[self.kind]
            return schema.empty_table().select([c for c in columns or schema.names if c in schema.names])
        dataset = table.to_pyarrow_dataset()
        wanted = [name for name in columns if name in dataset.schema.names] if columns is not None else None
        return dataset.to_table(columns=wanted, filter=_within(since, until, where))

    def _open(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.uri)
        except TableNotFoundError:
            return None


def _within(since: datetime | None, until: datetime | None, where: pc.Expression | None) -> pc.Expression | None:
    conditions = [where] if where is not None else []
    if since is not None:
        conditions += [ds.field("day") >= pa.scalar(since.date()), ds.field("time") >= _scalar(since)]
    if until is not None:
        conditions += [ds.field("day") <= pa.scalar(until.date()), ds.field("time") < _scalar(until)]
    if not conditions:
        return None
    both = conditions[0]
    for condition in conditions[1:]:
        both = both & condition
    return both


def _scalar(time: datetime) -> pa.Scalar:
    return pa.scalar(time, pa.timestamp("us", tz="UTC"))
