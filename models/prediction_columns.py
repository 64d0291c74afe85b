"""What a model said, as the columns that are remembered of it (models/traffic.py); many rows at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.classification import numbered, softmax
from models.manifest import OutputKind
from models.signature import Tensors, rows_of
from models.traffic import MAX_PROBABILITIES

Floats = npt.NDArray[np.float32]


class PredictionColumns(NamedTuple):
    """A row each. Without classes, and where a model answered with NaN or infinity: None, NaN, NaN, NaN.

    `probabilities` is [rows, classes] in label order; None without classes, and of more than MAX_PROBABILITIES.
    """

    label: npt.NDArray[Any]
    confidence: Floats
    margin: Floats
    entropy: Floats
    probabilities: Floats | None

    def arrow(self) -> dict[str, pa.Array]:
        """The columns as Arrow takes them, with nulls where nothing is known."""
        columns = {"label": pa.array(self.label, pa.string())}
        for name in ("confidence", "margin", "entropy"):
            columns[name] = pa.array(getattr(self, name), pa.float32(), from_pandas=True)
        columns["probabilities"] = probability_lists(self.probabilities, len(self.label))
        return columns


def prediction_columns(outputs: Tensors, output: OutputKind, labels: Sequence[str] | None) -> PredictionColumns:
    """Read rows [rows, classes] of probabilities or logits; `tensors` are not classes."""
    if output == "tensors":
        return nothing(rows_of(outputs))
    scores = np.asarray(next(iter(outputs.values())), np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        return nothing(len(scores))
    is_known = np.asarray(np.isfinite(scores).all(axis=1))
    scores = np.where(is_known[:, None], scores, 0.0)
    probabilities = softmax(scores) if output == "logits" else scores
    rows = np.arange(len(scores))
    best = probabilities.argmax(axis=1)
    confidence = probabilities[rows, best]
    names = np.array(
        labels if labels is not None and len(labels) == scores.shape[1] else numbered(scores.shape[1]), object
    )

    def where_known(values: npt.NDArray[np.float64]) -> Floats:
        return np.where(is_known, values, np.nan).astype(np.float32)

    return PredictionColumns(
        label=np.where(is_known, names[best], np.array(None, object)),
        confidence=where_known(confidence),
        margin=where_known(confidence - _second(probabilities)),
        entropy=where_known(_entropy(probabilities)),
        probabilities=np.where(is_known[:, None], probabilities, np.nan).astype(np.float32)
        if scores.shape[1] <= MAX_PROBABILITIES
        else None,
    )


def nothing(rows: int) -> PredictionColumns:
    """Of so many rows that are no classes."""
    unknown = np.full(rows, np.nan, np.float32)
    return PredictionColumns(np.full(rows, None, object), unknown, unknown, unknown, None)


def probability_lists(probabilities: Floats | None, rows: int) -> pa.Array:
    """A list of float32 each; null of rows that hold NaN, and of all without probabilities."""
    kind = pa.list_(pa.float32())
    if probabilities is None:
        return pa.nulls(rows, kind)
    is_unknown = np.isnan(probabilities).any(axis=1)
    offsets = np.arange(rows + 1, dtype=np.int32) * probabilities.shape[1]
    values = pa.array(np.ascontiguousarray(probabilities).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(is_unknown))


def _second(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The next probability after the largest; 0 of a single class."""
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    return np.partition(probabilities, -2, axis=1)[:, -2]


def _entropy(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """In nats."""
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(-(probabilities * logarithms).sum(axis=1))
