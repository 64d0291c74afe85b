"""From the records that a Router kept to rows of the tables (models/traffic.py): many at once, in numpy and Arrow."""

import io
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from deployments.batching import join
from deployments.traffic_record import Record
from models.errors import ModelFailed
from models.features import hashed, image_columns, tensor_features
from models.prediction_columns import PredictionColumns, nothing, prediction_columns
from models.signature import Tensors
from models.traffic import IMAGE_FEATURES, INPUTS, OK, PREDICTIONS, SCHEMA_VERSION

logger = logging.getLogger("ray.serve")

DAY_US = 86_400_000_000
NPZ = "application/x-npz"
CONTENT_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"RIFF": "image/webp"}


def prediction_rows(records: Sequence[Record], writer: str, first: int) -> pa.Table:
    """Rows of PREDICTIONS with their features, numbered from `first`."""
    tables = []
    for group in alike(records):
        tables.append(_rows(group, writer, first))
        first += tables[-1].num_rows
    return pa.concat_tables(tables, promote_options="default")


def input_rows(records: Sequence[Record], writer: str, first: int) -> pa.Table:
    """Rows of INPUTS, of the records that keep theirs."""
    columns = _origin(records, writer, first)
    kept = [content for record in records for content in contents(record)]
    columns["content_type"] = pa.array([content_type for content_type, _ in kept], pa.string())
    columns["content"] = pa.array([content for _, content in kept], pa.binary())
    return pa.table([columns[field.name] for field in INPUTS], schema=INPUTS)


def alike(records: Iterable[Record]) -> list[list[Record]]:
    """Records whose arrays can be joined: of one version, with the same shapes."""
    groups: dict[object, list[Record]] = defaultdict(list)
    for record in records:
        groups[
            record.variant.version,
            record.is_image,
            None if record.manifest is None else id(record.manifest),
            None if record.answer is None else _shapes(record.answer.outputs),
            None if record.tensors is None else _shapes(record.tensors),
        ].append(record)
    return list(groups.values())


def _shapes(tensors: Tensors) -> tuple[Any, ...]:
    return tuple((name, array.shape[1:]) for name, array in tensors.items())


def _rows(records: Sequence[Record], writer: str, first: int) -> pa.Table:
    said = _said(records)
    columns = _origin(records, writer, first) | _request(records, said) | said.arrow() | _comparison(records)
    columns["embedding"] = _embeddings(records, len(said.label))
    predictions = pa.table([columns[field.name] for field in PREDICTIONS], schema=PREDICTIONS)
    for name, column in _features(records).items():
        predictions = predictions.append_column(name, column)
    return predictions


def _origin(records: Sequence[Record], writer: str, first: int) -> dict[str, pa.Array]:
    counts = _counts(records)
    total = int(counts.sum())
    times = np.repeat(np.array([record.time for record in records]) * 1e6, counts).astype(np.int64)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    items = np.repeat(np.array([record.item for record in records]), counts) + np.arange(total) - starts
    return {
        "writer": _constant(writer, total),
        "sequence": pa.array(np.arange(first, first + total)),
        "time": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
        "day": pa.array((times // DAY_US).astype(np.int32)).cast(pa.date32()),
        "request_id": pa.array(_repeated([record.request_id for record in records], counts), pa.string()),
        "item": pa.array(items.astype(np.int32)),
        "model": _constant(records[0].variant.model, total),
        "version": pa.array(np.repeat(np.array([r.variant.version for r in records], np.int32), counts)),
    }


def _request(records: Sequence[Record], said: PredictionColumns) -> dict[str, pa.Array]:
    counts = _counts(records)
    total = int(counts.sum())
    timings = [record.answer.timing if record.answer else None for record in records]

    def milliseconds(values: Iterable[float]) -> pa.Array:
        return pa.array(np.repeat(np.array(list(values), np.float32), counts), from_pandas=True)

    def phase(name: str) -> pa.Array:
        return milliseconds(np.nan if timing is None else getattr(timing, name) for timing in timings)

    return {
        "schema_version": pa.array(np.full(total, SCHEMA_VERSION, np.int8)),
        "variant": pa.array(_repeated([record.variant.name for record in records], counts), pa.string()),
        "cache_hit": pa.array(np.zeros(total, bool)),
        "status": pa.array(_statuses(records, said), pa.string()),
        "key_id": pa.array(_repeated([record.key_id for record in records], counts), pa.string()),
        "weight": pa.array(np.repeat(np.array([record.weight for record in records], np.float32), counts)),
        "total_ms": milliseconds(record.total_ms for record in records),
        **{name: phase(name) for name in ("queue_ms", "preprocess_ms", "batch_ms", "compute_ms")},
    }


def _said(records: Sequence[Record]) -> PredictionColumns:
    answers = [record.answer for record in records if record.answer is not None]
    manifest = records[0].manifest
    if not answers or manifest is None:
        return nothing(int(_counts(records).sum()))
    return prediction_columns(join([answer.outputs for answer in answers]), manifest.output, manifest.labels)


def _statuses(records: Sequence[Record], said: PredictionColumns) -> list[str]:
    """Of images whose classes are NaN clients are told that the model failed."""
    statuses = _repeated([record.status for record in records], _counts(records))
    manifest = records[0].manifest
    if not records[0].is_image or manifest is None or manifest.output == "tensors":
        return statuses
    return [
        ModelFailed.code if status == OK and label is None else status
        for status, label in zip(statuses, said.label, strict=True)
    ]


def _embeddings(records: Sequence[Record], rows: int) -> pa.Array:
    if not any(record.answer is not None and record.answer.embedding is not None for record in records):
        return pa.nulls(rows, pa.binary())
    told: list[bytes | None] = []
    for record in records:
        embedding = record.answer.embedding if record.answer is not None else None
        if embedding is None:
            told += [None] * record.rows
        else:
            told += [row.tobytes() for row in np.asarray(embedding, "<f2")]
    return pa.array(told, pa.binary())


def _comparison(records: Sequence[Record]) -> dict[str, pa.Array]:
    told = [
        (record.compared_with, each.agrees, each.mean_difference, each.max_difference)
        if record.compared_with is not None and each is not None
        else (None,) * 4
        for record in records
        for each in (record.agreements or (None,) * record.rows)
    ]
    fields = [PREDICTIONS.field(name) for name in ("compared_with", "agrees", "mean_difference", "max_difference")]
    columns = zip(*told, strict=True)
    return {field.name: pa.array(list(column), field.type) for field, column in zip(fields, columns, strict=True)}


def _features(records: Sequence[Record]) -> dict[str, pa.Array]:
    """Of inputs that cannot be told none; the rest of the record is none the worse."""
    if records[0].is_image:
        columns = image_columns([record.features for record in records])
        return {field.name: pa.array(columns[field.name], field.type, from_pandas=True) for field in IMAGE_FEATURES}
    tensors = [record.tensors for record in records if record.tensors is not None]
    manifest = records[0].manifest
    if not tensors or manifest is None:
        return {}
    try:
        return {name: pa.array(column) for name, column in tensor_features(join(tensors), manifest.signature).items()}
    except (ValueError, TypeError, OverflowError):
        logger.exception("no features of inputs of %s version %d", manifest.model, manifest.version)
        return {}


def contents(record: Record) -> list[tuple[str, bytes]]:
    """The inputs themselves, row by row, and their content types."""
    if record.image is not None:
        start = record.image[:4]
        kind = next((name for magic, name in CONTENT_TYPES.items() if start.startswith(magic)), "image/*")
        return [(kind, record.image)]
    tensors = {name: _without_text(array) for name, array in (record.tensors or {}).items()}
    return [(NPZ, _npz({name: array[row] for name, array in tensors.items()})) for row in range(record.rows)]


def _npz(arrays: dict[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _without_text(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Text never leaves the process: its hash does."""
    if array.dtype.kind not in "OSU":
        return array
    return np.array([hashed(text) for text in array.flat], np.str_).reshape(array.shape)


def _counts(records: Sequence[Record]) -> npt.NDArray[np.int64]:
    return np.array([record.rows for record in records], np.int64)


def _repeated(values: list[Any], counts: npt.NDArray[np.int64]) -> list[Any]:
    if len(values) == int(counts.sum()):  # each counts once; no record has no row
        return values
    return [value for value, count in zip(values, counts.tolist(), strict=True) for _ in range(count)]


def _constant(text: str, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.string()), count)
