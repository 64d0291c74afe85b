"""CSV and Parquet files as rows of texts, with the line that each comes from."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from models.errors import InvalidRequest

Cells = Mapping[str, str]
Rows = Iterator[tuple[int, Cells]]


def read_cells(content: bytes, name: str, wanted: Collection[str]) -> tuple[list[str], Rows]:
    """The columns of a file, and its rows with the line of a CSV (the row of a Parquet file, from 1) each comes from.

    All values are texts, null is an empty one. Raises InvalidRequest.
    """
    return _parquet(content, name, wanted) if is_parquet(content) else _csv(content, name)


def is_parquet(content: bytes) -> bool:
    """Whether it is Parquet rather than CSV."""
    return content.startswith(b"PAR1")


def read_file(path: Path) -> bytes:
    """Raises InvalidRequest."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None


def _csv(content: bytes, name: str) -> tuple[list[str], Rows]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"{name}, line {line}: not UTF-8") from None
    first = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    columns = [column.strip() for column in next(lines, [])]
    if len(set(columns)) < len(columns):
        raise InvalidRequest(f"{name}, line 1: a column comes twice: {', '.join(columns)}")
    return columns, _csv_rows(lines, columns, name)


def _csv_rows(lines: Any, columns: list[str], name: str) -> Rows:
    while True:
        try:
            cells = next(lines, None)
        except csv.Error as error:
            raise InvalidRequest(f"{name}, line {lines.line_num}: not CSV: {error}") from None
        if cells is None:
            return
        if not any(cells):
            continue
        if len(cells) != len(columns):
            raise InvalidRequest(
                f"{name}, line {lines.line_num}: {len(cells)} columns, the first line has {len(columns)}"
            )
        yield lines.line_num, dict(zip(columns, cells, strict=True))


def _parquet(content: bytes, name: str, wanted: Collection[str]) -> tuple[list[str], Rows]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise InvalidRequest(f"{name}: not Parquet: {str(error).splitlines()[0]}") from None
    known = [each for each in table.column_names if each in wanted]
    columns = [_texts(table[each], each, name) for each in known]
    rows = (dict(zip(known, cells, strict=True)) for cells in zip(*columns, strict=True))
    return table.column_names, enumerate(rows, start=1)


def _texts(column: Any, name: str, file: str) -> list[str]:
    """A column's values as they would stand in a CSV. pandas makes numbers with gaps floating-point ones."""
    import pyarrow as pa

    try:
        if pa.types.is_floating(column.type) and name != "weight":
            column = column.cast(pa.int64())
        if pa.types.is_timestamp(column.type):
            times = column.cast(pa.timestamp("us", column.type.tz)).to_pylist()
            return [value.isoformat() if value else "" for value in times]
        values: list[str] = column.cast(pa.string()).fill_null("").to_pylist()
    except pa.ArrowException:
        raise InvalidRequest(f"{file}, column {name!r}: expected text, found {column.type}") from None
    return values
