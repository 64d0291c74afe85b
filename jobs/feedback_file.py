"""Files of labels: CSV or Parquet, made by hand, by a query, or by `tiltyard label-sample` and filled in.

    request_id   of the answer, as it was returned
    label        what the class really is, spelled as the model spells it
    item         optional: which image or row of its request, from 0
    model        optional: whose answer; by default of whichever model answered a request of that id
    time         optional: when that was known, ISO 8601, UTC unless it says otherwise; by default now
    weight       optional: how many predictions it stands for, as `label-sample` wrote it

Other columns are ignored. A file with a column `true_label` is a sample: that is its label, `label` is what the model
said, `time` when it was asked, and rows without a true label are not labelled yet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobs.cells import Cells, is_parquet, read_cells
from models.errors import InvalidRequest
from models.store import NAME

TRUE_LABEL = "true_label"
COLUMNS = ("request_id", "label", TRUE_LABEL, "item", "model", "time", "weight")

MAX_LENGTH = 200
"""Of a request id and of a label, as in POST /feedback."""

CLOCKS_DIFFER = timedelta(hours=1)
"""A label from the future would be the newest for ever."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Begins what a spreadsheet would run; request ids are the clients'. `label-sample` puts an apostrophe before it."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label; `time` is None where the file does not say."""

    request_id: str
    label: str
    item: int | None
    time: datetime | None
    weight: float | None
    model: str | None


def read_labels(content: bytes, name: str, now: datetime) -> tuple[list[Label], int]:
    """The labels of a file, and how many of its rows are not labelled yet.

    Raises InvalidRequest naming line (CSV) or row (Parquet), and column.
    """
    columns, rows = read_cells(content, name, COLUMNS)
    is_sample = TRUE_LABEL in columns
    for needed in ("request_id", TRUE_LABEL if is_sample else "label"):
        if needed not in columns:
            raise InvalidRequest(f"{name}: no column {needed!r}; there are: {', '.join(columns) or 'none'}")
    parse = _parser(is_sample, now)
    labels, unlabelled = [], 0
    for number, row in rows:
        if is_sample and not row.get(TRUE_LABEL, "").strip():
            unlabelled += 1
            continue
        try:
            labels.append(parse(row))
        except _Wrong as wrong:
            where = "row" if is_parquet(content) else "line"
            raise InvalidRequest(f"{name}, {where} {number}, column {wrong.column!r}: {wrong}") from None
    return labels, unlabelled


class _Wrong(Exception):
    """A cell that cannot be read."""

    def __init__(self, column: str, words: str) -> None:
        super().__init__(words)
        self.column = column


def _parser(is_sample: bool, now: datetime) -> Callable[[Cells], Label]:
    latest = now + CLOCKS_DIFFER

    def parse(row: Cells) -> Label:
        request_id = row["request_id"]
        if is_sample and request_id.startswith(tuple(f"'{each}" for each in FORMULA)):
            request_id = request_id[1:]
        column = TRUE_LABEL if is_sample else "label"
        return Label(
            _text(request_id, "request_id"),
            _text(row[column].strip(), column),
            _item(row.get("item", "").strip()),
            None if is_sample else _time(row.get("time", "").strip(), latest),
            _weight(row.get("weight", "").strip()),
            _model(row.get("model", "").strip()),
        )

    return parse


def _text(value: str, column: str) -> str:
    if not value.strip():
        raise _Wrong(column, "empty")
    if len(value) > MAX_LENGTH:
        raise _Wrong(column, f"{len(value)} characters, at most {MAX_LENGTH} are possible")
    return value


def _item(value: str) -> int | None:
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and int(value) < 2**31):
        raise _Wrong("item", f"{value!r} is no whole number from 0")
    return int(value)


def _time(value: str, latest: datetime) -> datetime | None:
    if not value:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise _Wrong("time", f"{value!r} is no time as in 2026-11-21T18:20:00Z") from None
    time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    if time > latest:
        raise _Wrong("time", f"{value!r} is in the future")
    return time


def _model(value: str) -> str | None:
    if value and not NAME.fullmatch(value):
        raise _Wrong("model", f"{value!r} is no name of a model")
    return value or None


def _weight(value: str) -> float | None:
    if not value:
        return None
    try:
        weight = float(value)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise _Wrong("weight", f"{value!r} is no positive number")
    return weight
