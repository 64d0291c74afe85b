"""What is remembered of a model's traffic, in numbers: stored, on its way, and what became of the rest."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.traffic_append import SET_ASIDE
from models.errors import ModelNotFound
from models.traffic_ledger import Account
from models.traffic_spool import Stream
from models.traffic_spooled import Spool
from models.traffic_table import Day, TrafficTable
from models.traffic_tables import TrafficTables

_GROUPS = ("version", "variant", "status")


@dataclass(frozen=True, slots=True)
class Group:
    """Predictions of one version, as one variant, with one status; `predictions` is what the rows stand for."""

    version: int
    variant: str
    status: str
    rows: int
    predictions: float
    cache_hits: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a table holds; `first` and `last` are times of its records."""

    rows: int = 0
    bytes: int = 0
    files: int = 0
    days: int = 0
    most_files_a_day: int = 0
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one model. `spooled` rows are not in the table yet; `set_aside` files could not be put there.

    `buffered`, `lost` by reason and `sampled_out` are the counts of all writers of this spool, of those that are gone
    as well: they tell of records that never came to lie anywhere.
    """

    model: str
    predictions: Extent
    inputs: Extent
    feedback: Extent
    groups: list[Group] = field(default_factory=list)
    spooled: int = 0
    buffered: int = 0
    sampled_out: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    set_aside: int = 0


def known_models(tables: TrafficTables, spool: Spool) -> list[str]:
    """Names of models that were logged, in the tables or only in the spool."""
    return sorted({*tables.models(), *(stream.model for stream in spool.accounts() if stream.model)})


def summarize(tables: TrafficTables, spool: Spool, model: str) -> Summary:
    """Count. Raises ModelNotFound where nothing was ever logged of the model, TrafficUnavailable."""
    stream, table = Stream("predictions", model), tables.predictions(model)
    account = spool.accounts().get(stream)
    if account is None and not table.exists():
        there = ", ".join(known_models(tables, spool)) or "none"
        raise ModelNotFound(f"no traffic of model {model!r} was logged; there is that of: {there}")
    account = account or Account()
    return Summary(
        model=model,
        predictions=extent(table),
        inputs=extent(tables.inputs(model)),
        feedback=extent(tables.feedback()),
        groups=groups(table),
        spooled=waiting(table, spool, stream),
        buffered=account.buffered,
        sampled_out=account.sampled_out,
        lost={reason: count for reason, count in account.lost.items() if count},
        set_aside=len(list((spool.path / SET_ASIDE / stream.name).glob("*"))),
    )


def extent(table: TrafficTable) -> Extent:
    """How much there is, from the table's log alone."""
    days = table.days()
    if not days:
        return Extent()
    return Extent(
        rows=sum(day.rows for day in days),
        bytes=sum(day.bytes for day in days),
        files=sum(day.files for day in days),
        days=len(days),
        most_files_a_day=max(day.files for day in days),
        first=_earliest(days),
        last=_latest(days),
    )


def groups(table: TrafficTable) -> list[Group]:
    """Counts by version, variant and status: a few columns of all rows are gone through, in little memory."""
    counted: pa.Table | None = None
    for batch in table.scan([*_GROUPS, "weight", "cache_hit"]):
        batch_counts = _count(pa.table(batch).append_column("rows", pa.array([1] * batch.num_rows)))
        counted = batch_counts if counted is None else _count(pa.concat_tables([counted, batch_counts]))
    rows: list[dict[str, Any]] = counted.to_pylist() if counted is not None else []
    found = [
        Group(
            version=row["version"],
            variant=row["variant"],
            status=row["status"],
            rows=row["rows"],
            predictions=row["weight"],
            cache_hits=row["cache_hit"],
        )
        for row in rows
    ]
    return sorted(found, key=lambda group: (group.version, group.variant, group.status))


def waiting(table: TrafficTable, spool: Spool, stream: Stream) -> int:
    """Rows that lie in the spool and not in the table."""
    rows = 0
    for writer in spool.writers():
        files = writer.files(stream)
        last = (table.appended(writer.name) or 0) if files else 0
        for file in files:
            with suppress(OSError, pa.ArrowInvalid):  # it was moved just now, or cannot be read
                rows += pq.read_metadata(file.path).num_rows if file.number > last else 0
    return rows


def _count(rows: pa.Table) -> pa.Table:
    sums = rows.group_by(list(_GROUPS)).aggregate([("rows", "sum"), ("weight", "sum"), ("cache_hit", "sum")])
    return sums.select([*_GROUPS, "rows_sum", "weight_sum", "cache_hit_sum"]).rename_columns(
        [*_GROUPS, "rows", "weight", "cache_hit"]
    )


def _earliest(days: list[Day]) -> datetime | None:
    return min((day.first for day in days if day.first is not None), default=None)


def _latest(days: list[Day]) -> datetime | None:
    return max((day.last for day in days if day.last is not None), default=None)
