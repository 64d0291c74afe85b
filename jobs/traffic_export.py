"""Logged traffic as one file, to be read by anything: Parquet or CSV."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pyarrow.types as pt

from models.errors import InvalidRequest
from models.traffic_table import TrafficTable

FORMATS = (".parquet", ".csv")
_ROW_GROUP = 131_072


def export(
    table: TrafficTable,
    file: Path,
    columns: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    on_rows: Callable[[int], None],
) -> int:
    """Write rows of [since, until) into a file of the kind that its name ends with; returns how many.

    They are streamed, in no order; `on_rows` is told of each batch. The file is there whole or not at all. In CSV the
    probabilities are numbers with blanks between them, and binary columns are in hexadecimal. Raises InvalidRequest for
    another kind of file or an unknown column.
    """
    if file.suffix not in FORMATS:
        raise InvalidRequest(f"-o {file.name}: expected a name that ends with {' or '.join(FORMATS)}")
    schema = _chosen(table, columns)
    rows = 0
    with _replaced(file) as temporary, _writer(temporary, file.suffix, schema) as write:
        for batch in table.scan(schema.names, since, until, batch_rows=_ROW_GROUP):
            write(batch)
            rows += batch.num_rows
            on_rows(batch.num_rows)
    return rows


def _chosen(table: TrafficTable, columns: Sequence[str] | None) -> pa.Schema:
    there = table.schema()
    unknown = [name for name in columns or () if name not in there.names]
    if unknown:
        raise InvalidRequest(f"no column {unknown[0]!r}; there are: {', '.join(there.names)}")
    return table.schema(columns or there.names)


@contextmanager
def _replaced(file: Path) -> Iterator[Path]:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, file)
    except OSError as error:
        raise InvalidRequest(f"-o {file}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _writer(path: Path, suffix: str, schema: pa.Schema) -> Iterator[Callable[[pa.RecordBatch], Any]]:
    if suffix == ".parquet":
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield parquet.write_batch
        return
    with csv.CSVWriter(path, _plain(schema.empty_table().to_batches(1), schema).schema) as plain:
        yield lambda batch: plain.write_batch(_plain([batch], schema))


def _plain(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """A batch as CSV can hold it: no lists, no bytes."""
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)
    return pa.RecordBatch.from_arrays([_text(column) for column in batch.columns], names=batch.schema.names)


def _text(column: pa.Array) -> pa.Array:
    if pt.is_list(column.type) or pt.is_large_list(column.type):
        return pc.binary_join(pc.cast(column, pa.list_(pa.string())), " ")
    if pt.is_binary(column.type) or pt.is_large_binary(column.type):
        return pa.array([value and value.hex() for value in column.to_pylist()], pa.string())
    return column
