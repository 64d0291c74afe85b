"""From a model's output rows to classes with confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ModelFailed
from models.manifest import OutputKind


@dataclass(frozen=True, slots=True)
class Classification:
    """The likeliest class of one row, its probability and those of all classes (in label order)."""

    label: str
    confidence: float
    probabilities: dict[str, float]


def classify(row: npt.NDArray[Any], output: OutputKind, labels: Sequence[str] | None) -> Classification:
    """Read one row [classes] of probabilities or logits. Raises ModelFailed where it holds NaN or infinity."""
    values = row.astype(np.float64)
    if not np.isfinite(values).all():
        raise ModelFailed("the model answered with NaN or infinity")
    if output == "logits":
        values = softmax(values)
    names = labels if labels is not None else numbered(len(values))
    best = int(values.argmax())
    return Classification(names[best], float(values[best]), dict(zip(names, values.tolist(), strict=True)))


@lru_cache(maxsize=64)
def numbered(count: int) -> tuple[str, ...]:
    """What classes without labels are called."""
    return tuple(map(str, range(count)))


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities from logits, along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def kind_of_output(outputs: Sequence[npt.NDArray[Any]], has_labels: bool) -> OutputKind:
    """Tell what a model answers with from its golden outputs.

    One float output [rows, classes] whose rows are non-negative and sum to one is `probabilities`; any other
    such output is `logits` if labels name its columns, else `tensors`.
    """
    if len(outputs) != 1 or outputs[0].ndim != 2 or outputs[0].dtype.kind != "f" or outputs[0].shape[1] < 2:
        return "tensors"
    rows = outputs[0].astype(np.float64)
    if (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3):
        return "probabilities"
    return "logits" if has_labels else "tensors"
