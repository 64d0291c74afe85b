"""Predictions joined with what their classes really were.

A label belongs to the image or row (`item`) that it names; one that names none, to the only item of its request: of a
request of many it is not known which one is meant. Of several labels for the same thing the newest counts, however it
came. Of several predictions of the same item by the same version in the same role (clients choose request ids, and may
choose one twice) the newest counts. Labels may come long after the prediction and in any order.

Needs pyarrow and numpy only: `tiltyard quality` and the drift job both use it.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.traffic import FEEDBACK, OK, PREDICTIONS
from models.traffic_tables import TrafficTables

COLUMNS = ("label", "confidence", "margin")
"""What `labelled` tells of a prediction unless it is asked for more."""

CLOCKS_DIFFER = timedelta(days=1)
"""A label cannot be older than the prediction, but for clocks that differ."""

_NEEDED = ("request_id", "item", "time", "sequence", "version", "variant", "status", "label", "weight")
_FEEDBACK = ("request_id", "item", "time", "writer", "sequence", "label", "weight", "model")

_NUMBER = "request_number"

Integers = npt.NDArray[np.int64]


def labelled(
    tables: TrafficTables,
    model: str,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] = COLUMNS,
) -> pa.Table:
    """The labelled predictions of [since, until), see `join`; only they are held in memory."""
    feedback = read_feedback(tables, model, since)
    ids = pc.unique(feedback["request_id"])
    wanted = [*dict.fromkeys([*_NEEDED, *columns])]
    predictions = tables.predictions(model)
    kept = [_numbered(rows, ids) for rows in gathered(predictions.scan(wanted, since, until), len(ids))]
    return _joined(pa.concat_tables(kept or [_numbered(PREDICTIONS.empty_table(), ids)]), _numbered(feedback, ids))


def read_feedback(tables: TrafficTables, model: str, since: datetime | None = None) -> pa.Table:
    """All labels that may belong to a model's predictions from `since` on: its own, and those that name no model."""
    table = tables.feedback().read(_FEEDBACK, None if since is None else since - CLOCKS_DIFFER)
    for name in ("item", "weight", "model"):  # a table that was begun without them
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), FEEDBACK.field(name).type))
    return table.filter(pc.fill_null(pc.equal(table["model"], model), True))


def join(predictions: pa.Table, feedback: pa.Table) -> pa.Table:
    """The predictions that a label is known of, with columns added.

    `true_label`; `labelled_at`; `is_sampled`: whether `label-sample` drew it; and `weight`, how many predictions it
    stands for, is now that of the log times that of the sample. Only answers with classes are left.
    """
    ids = pc.unique(feedback["request_id"])
    return _joined(_numbered(predictions, ids), _numbered(feedback, ids))


def is_labelled(predictions: pa.Table, feedback: pa.Table) -> npt.NDArray[np.bool_]:
    """Whether a label is known of each prediction."""
    ids = pc.unique(feedback["request_id"])
    number = _integers(pc.fill_null(pc.index_in(predictions["request_id"], value_set=ids), -1))
    told = np.zeros(len(number), dtype=bool)
    told[number >= 0] = _positions(_numbered(predictions, ids), _numbered(feedback, ids)) >= 0
    return told


def newest(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The newest row of each key, by `time`, then by `sequence`; null is a key as well."""
    codes = [_codes(table[name]) for name in keys]
    order = np.lexsort((_integers(table["sequence"]), _integers(table["time"]), *codes))
    is_last = np.zeros(len(order), dtype=bool)
    is_last[-1:] = True
    for code in codes:
        is_last[:-1] |= np.diff(code[order]) != 0
    return table.take(order[is_last])


def gathered(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Tables of at least so many rows, but for the last: looking ids up costs as much as there are ids, each time."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= rows:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def _numbered(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """Those whose request is among `ids`, with its number there: numbers are compared faster than texts."""
    found = rows.append_column(_NUMBER, pc.index_in(rows["request_id"], value_set=ids))
    return found.filter(pc.is_valid(found[_NUMBER]))


def _joined(predictions: pa.Table, feedback: pa.Table) -> pa.Table:
    rows = newest(predictions, (_NUMBER, "item", "version", "variant"))
    known = _positions(rows, feedback)
    answered = pc.and_(pc.equal(rows["status"], OK), pc.is_valid(rows["label"])).to_numpy()
    keep = np.flatnonzero((known >= 0) & answered)
    drawn = feedback.filter(pc.is_valid(feedback["weight"]))
    sampled = _positions(rows, drawn)[keep]
    truth = feedback.select(["label", "time"]).take(known[keep])
    each = pc.fill_null(drawn["weight"].take(pa.array(sampled, mask=sampled < 0)), 1.0)
    rows = rows.drop_columns([_NUMBER]).take(keep)
    weight = pc.multiply(rows["weight"].cast(pa.float64()), each)
    rows = rows.set_column(rows.column_names.index("weight"), "weight", weight)
    rows = rows.append_column("true_label", truth["label"]).append_column("labelled_at", truth["time"])
    return rows.append_column("is_sampled", pa.array(sampled >= 0))


def _positions(rows: pa.Table, feedback: pa.Table) -> Integers:
    """For each prediction the row of its newest label in `feedback`, -1 where there is none."""
    asked, item = _integers(rows[_NUMBER]), _integers(rows["item"])
    told, of_item = _integers(feedback[_NUMBER]), _integers(pc.fill_null(feedback["item"], -1))
    last_item = np.zeros(max(asked.max(initial=-1), told.max(initial=-1)) + 1, dtype=np.int64)
    np.maximum.at(last_item, asked, item)
    # A label without an item is one of item 0, where there is no other.
    of_item = np.where((of_item < 0) & (last_item[told] == 0), 0, of_item)
    keys = np.where(of_item < 0, -1, told << 32 | of_item)
    order = np.lexsort((_integers(feedback["sequence"]), _integers(feedback["time"]), keys))
    return _last_of(asked << 32 | item, keys[order], order)


def _last_of(wanted: Integers, keys: Integers, rows: Integers) -> Integers:
    """The row of the last key that equals each wanted one, -1 where none does; keys rise."""
    at = np.searchsorted(keys, wanted, side="right") - 1
    if not len(keys):
        return at
    return np.where((at >= 0) & (keys[at] == wanted), rows[at], -1)


def _codes(column: pa.ChunkedArray) -> Integers:
    """Numbers that are equal where the values are."""
    if not pa.types.is_integer(column.type):
        column = pc.index_in(column, value_set=pc.unique(column))
    return _integers(pc.fill_null(column, -1))


def _integers(column: Any) -> Integers:
    return np.asarray(column.cast(pa.int64()), dtype=np.int64)
