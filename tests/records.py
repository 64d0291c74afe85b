"""Records of a traffic log, for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from models.traffic import FEEDBACK, INPUTS, PREDICTIONS, SCHEMA_VERSION

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def predictions(
    count: int,
    *,
    first: int = 0,
    time: datetime = NOON,
    writer: str = "w",
    model: str = "digits",
    features: dict[str, pa.Array] | None = None,
    **columns: Any,
) -> pa.Table:
    """Rows a second apart; a column may be one value for all of them, or a list."""
    times = [time + timedelta(seconds=number) for number in range(count)]
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "writer": writer,
        "sequence": list(range(first, first + count)),
        "time": times,
        "day": [each.date() for each in times],
        "request_id": [f"{writer}-{number}" for number in range(first, first + count)],
        "item": 0,
        "model": model,
        "version": 1,
        "variant": "champion",
        "cache_hit": False,
        "status": "ok",
        "weight": 1.0,
        "label": "7",
        "confidence": 0.9,
        "probabilities": [[0.9, 0.1]] * count,
        **columns,
    }
    table = _table(PREDICTIONS, values, count)
    for name, array in (features or {}).items():
        table = table.append_column(name, array)
    return table


def inputs(count: int, *, time: datetime = NOON, writer: str = "w", model: str = "digits") -> pa.Table:
    """The inputs of as many predictions."""
    same = predictions(count, time=time, writer=writer, model=model)
    kept = {name: same[name].to_pylist() for name in INPUTS.names if name in same.schema.names}
    return _table(INPUTS, {**kept, "content_type": "image/png", "content": b"not really"}, count)


def feedback(count: int, *, time: datetime = NOON, writer: str = "w", label: str = "7") -> pa.Table:
    """The true classes of as many predictions."""
    same = predictions(count, time=time, writer=writer)
    kept = {name: same[name].to_pylist() for name in FEEDBACK.names if name in same.schema.names}
    return _table(FEEDBACK, {**kept, "label": label, "source": "http", "model": None}, count)


def told(**columns: Any) -> pa.Table:
    """One label that came by itself, a minute after noon."""
    values: dict[str, Any] = {"request_id": "w-0", "item": None, "weight": None, **columns}
    table = feedback(1, time=values.pop("time", NOON + timedelta(minutes=1)), label=values.pop("label", "7"))
    for name, value in values.items():
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array([value], field.type))
    return table


def _table(schema: pa.Schema, values: dict[str, Any], count: int) -> pa.Table:
    arrays = []
    for field in schema:
        value = values.get(field.name)
        arrays.append(pa.array(value if isinstance(value, list) else [value] * count, field.type))
    return pa.table(arrays, schema=schema)
