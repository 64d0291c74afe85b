"""Records made to fit the table they go to: its types, its columns, and those that are new."""

import logging
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from models.errors import InvalidTraffic

log = logging.getLogger(__name__)


class Rows(Protocol):
    """Records that can be read more than once; a `pa.Table` is some."""

    @property
    def schema(self) -> pa.Schema:
        """Their columns."""

    def to_reader(self) -> pa.RecordBatchReader:
        """All of them, from the first."""


def fitting(rows: pa.Schema, table: pa.Schema) -> pa.Schema:
    """The columns to append: those of the rows, with the table's types, and new ones behind.

    A column that the table has as something else (text where it has numbers) stays empty rather than to have all its
    records refused: it is one feature of a model whose signature changed under the same name.
    Raises InvalidTraffic for rows without a column that every record has.
    """
    there = set(table.names)
    known = [table.field(name) for name in rows.names if name in there]
    for field in table:
        if not field.nullable and field.name not in rows.names:
            raise InvalidTraffic(f"records without {field.name!r} are none of this table")
    new = [field for field in rows if field.name not in there and not pt.is_null(field.type)]
    for field in known:
        if not _castable(rows.field(field.name).type, field.type):
            log.warning("column %s is %s in the table: left empty", field.name, field.type)
    return pa.schema([*known, *(field.with_nullable(True) for field in new)])


def fitted(rows: Rows, schema: pa.Schema) -> pa.RecordBatchReader:
    """The records with the columns of `schema`, batch by batch."""
    return pa.RecordBatchReader.from_batches(schema, _batches(rows, schema))


def _batches(rows: Rows, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in rows.to_reader():
        yield fit(batch, schema)


def fit(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """One batch with the columns of `schema`; those it does not have are empty."""
    return pa.RecordBatch.from_arrays([_column(batch, field) for field in schema], schema=schema)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in batch.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(field.name)
    if column.type == field.type:
        return column
    if not _castable(column.type, field.type):
        return pa.nulls(batch.num_rows, field.type)
    return pc.cast(column, field.type, safe=False)


def _castable(source: pa.DataType, target: pa.DataType) -> bool:
    if source == target or pt.is_null(source):
        return True
    if pt.is_dictionary(source):
        return _castable(source.value_type, target)
    return any(is_kind(source) and is_kind(target) for is_kind in (_is_number, _is_text, _is_time, _is_list))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind) or pt.is_large_binary(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pt.is_temporal(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))
