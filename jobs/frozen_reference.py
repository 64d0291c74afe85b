"""Early production as the reference of a version: what its traffic was like while all was well.

A validation set seldom looks like traffic: other cameras, other clients, other hours of the day. `freeze` draws rows of
the traffic log, evenly over time and with their weights, so that every row of the reference counts the same.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.labelled import labelled
from models.errors import InvalidRequest
from models.reference import (
    MAX_ROWS,
    ORIGIN,
    OUTPUTS,
    TRUE_LABEL,
    FoundReference,
    ReferenceOrigin,
    find_reference,
    frozen_path,
    write_reference,
)
from models.store import Store
from models.traffic import OK, is_feature
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables

FEWEST_ROWS = 500
"""Fewer tell too little of what is usual."""

_KEY = ("writer", "sequence")

Picked = Counter[tuple[str, int]]
"""How often a record (its writer, its number there) was drawn."""


def freeze(
    store: Store,
    tables: TrafficTables,
    model: str,
    version: int,
    span: timedelta,
    since: datetime | None = None,
    most: int = MAX_ROWS,
) -> FoundReference:
    """Freeze what a version answered from `since` on (from its first answer on by default) for as long as `span`.

    Shadows and errors are left out. What feedback has told of the rows by now comes along. Raises ModelNotFound,
    VersionNotFound, TrafficUnavailable, or InvalidRequest where there is too little traffic or the store is read-only.
    """
    store.directory(model, version)
    table = tables.known(model)
    answered = (
        (ds.field("version") == version)
        & (ds.field("status") == OK)
        & ds.field("variant").isin(["champion", "challenger"])
    )
    start = since or _first_answer(table, answered)
    if start is None:
        raise InvalidRequest(f"no answer of {model} version {version} was logged yet")
    picked, first, last, count = _drawn(table, answered, start, start + span, most)
    if count < FEWEST_ROWS:
        raise InvalidRequest(
            f"only {count} answers of {model} version {version} were logged in that time; {FEWEST_ROWS} are needed"
        )
    rows = _rows(table, answered, (first, last + timedelta(microseconds=1)), picked)
    rows = rows.append_column(TRUE_LABEL, _truth(tables, model, rows, first, last)).drop_columns(list(_KEY))
    origin = ReferenceOrigin(source="traffic", since=first, until=last, drawn_from=count)
    _put(frozen_path(store, model, version), rows, origin)
    found = find_reference(store, model, version)
    assert found is not None
    return found


def unfreeze(store: Store, model: str, version: int) -> bool:
    """Go back to the validation set; whether something else was in use. Raises InvalidRequest (read-only store)."""
    store.directory(model, version)
    path = frozen_path(store, model, version)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be removed: {error.strerror}") from None
    return True


def draw(weights: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.intp]:
    """Positions of at most `most` rows, as often as their weights ask for: systematic sampling of rows in order.

    Rows in the order of time are so stratified by time. A row that stands for more than others may come twice.
    """
    if np.ptp(weights) == 0 and len(weights) <= most:
        return np.arange(len(weights))
    count = min(most, len(weights))
    ends = np.cumsum(weights)
    positions = (np.arange(count) + 0.5) * (ends[-1] / count)
    return np.asarray(np.searchsorted(ends, positions, side="right"))


def _first_answer(table: TrafficTable, answered: pc.Expression) -> datetime | None:
    for day in table.days():
        begin = datetime.combine(day.day, datetime.min.time(), UTC)
        times = [pc.min(batch["time"]) for batch in table.scan(["time"], begin, begin + timedelta(days=1), answered)]
        if times:
            first: datetime = min(time.as_py() for time in times)
            return first
    return None


def _drawn(
    table: TrafficTable, answered: pc.Expression, since: datetime, until: datetime, most: int
) -> tuple[Picked, datetime, datetime, int]:
    """Which records are drawn, the times of the first and the last answer, and the number of answers."""
    keys = table.read(["time", "weight", *_KEY], since, until, answered)
    if not len(keys):
        return Counter(), since, since, 0
    keys = keys.sort_by([("time", "ascending"), *((name, "ascending") for name in _KEY)])
    chosen = keys.take(draw(keys["weight"].to_numpy().astype(np.float64), most))
    picked = Counter(zip(chosen["writer"].to_pylist(), chosen["sequence"].to_pylist(), strict=True))
    return picked, keys["time"][0].as_py(), keys["time"][-1].as_py(), len(keys)


def _rows(table: TrafficTable, answered: pc.Expression, span: tuple[datetime, datetime], picked: Picked) -> pa.Table:
    """What was drawn, in the order of time, without columns that say nothing.

    The weights have had their say in the drawing: now every row stands for as much as any other.
    """
    names = [n for n in table.schema().names if n in (*ORIGIN, *OUTPUTS) or is_feature(n)]
    sequences = pa.array(sorted({sequence for _, sequence in picked}))
    wanted = answered & ds.field("sequence").isin(sequences)
    batches = [_repeated(batch, picked) for batch in table.scan([*names, *_KEY], span[0], span[1], wanted)]
    rows = pa.Table.from_batches(batches).sort_by("time")
    place = rows.schema.get_field_index("weight")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(np.ones(len(rows), np.float32)))
    return rows.drop_columns([name for name in rows.column_names if is_feature(name) and _is_empty(rows[name])])


def _repeated(batch: pa.RecordBatch, picked: Picked) -> pa.RecordBatch:
    keys = zip(batch["writer"].to_pylist(), batch["sequence"].to_pylist(), strict=True)
    return batch.take(pa.array(np.repeat(np.arange(len(batch)), [picked[key] for key in keys])))


def _is_empty(column: Any) -> bool:
    return bool(column.null_count == len(column))


def _truth(tables: TrafficTables, model: str, rows: pa.Table, first: datetime, last: datetime) -> pa.Array:
    """What feedback told of each row; null where nothing."""
    known = labelled(tables, model, first, last + timedelta(microseconds=1), (*_KEY, "label"))
    by_key = dict(zip(_keys(known), known[TRUE_LABEL].to_pylist(), strict=True))
    return pa.array([by_key.get(key) for key in _keys(rows)], pa.string())


def _keys(rows: pa.Table) -> Sequence[tuple[str, int]]:
    return list(zip(rows["writer"].to_pylist(), rows["sequence"].to_pylist(), strict=True))


def _put(path: Path, rows: pa.Table, origin: ReferenceOrigin) -> None:
    """There whole or not at all; one that was frozen before is replaced."""
    try:
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
            temporary_path = Path(temporary.name)
        try:
            write_reference(temporary_path, rows, origin)
            temporary_path.chmod(0o644)
            os.replace(temporary_path, path)
        finally:
            temporary_path.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None
