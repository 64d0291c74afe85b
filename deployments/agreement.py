"""What an answer says, and how far two answers to the same request agree."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.messages import Answer
from models.classification import softmax
from models.errors import ModelFailed
from models.manifest import Manifest
from models.signature import Tensors, rows_of

TOLERANCE = 1e-3
"""Without classes, tensors agree whose values differ by no more than the guard's `tolerance`, or this without one."""


@dataclass(frozen=True, slots=True)
class Said:
    """The class of one row and its probability; both None where the model does not answer with classes."""

    label: str | None
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """One row of two answers: what each said, and the mean and largest absolute difference of their tensors."""

    champion: Said
    other: Said
    mean_difference: float
    max_difference: float
    agrees: bool


def said(answer: Answer, manifest: Manifest) -> list[Said]:
    """What each row of an answer says."""
    if manifest.output == "tensors":
        return [Said(None, None)] * rows_of(answer.outputs)
    scores = np.asarray(next(iter(answer.outputs.values())), np.float64)
    if manifest.output == "logits":
        scores = softmax(scores)
    best = scores.argmax(axis=1)
    labels = manifest.labels
    return [
        Said(labels[index] if labels is not None else str(index), float(row[index]))
        for row, index in zip(scores, best.tolist(), strict=True)
    ]


def check(answer: Answer, manifest: Manifest, rows: int) -> None:
    """Raise ModelFailed for an answer that is none: NaN or infinity, or another shape than the signature's."""
    if manifest.output != "tensors" and manifest.labels is not None:
        columns = next(iter(answer.outputs.values())).shape[1:]
        if columns != (len(manifest.labels),):
            raise ModelFailed(f"the model answered with {list(columns)} columns for {len(manifest.labels)} classes")
    for spec in manifest.signature.outputs:
        array = answer.outputs.get(spec.name)
        if array is None:
            raise ModelFailed(f"the model did not answer with {spec.name!r}")
        if array.ndim != len(spec.shape) or len(array) != rows or not _fits(array.shape[1:], spec.shape[1:]):
            raise ModelFailed(f"output {spec.name!r}: shape {array.shape} is not {rows} rows of {spec.shape[1:]}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelFailed("the model answered with NaN or infinity")


def _fits(shape: Iterable[int], expected: Iterable[int | None]) -> bool:
    return all(size is None or length == size for length, size in zip(shape, expected, strict=True))


def compare(champion: Answer, other: Answer, manifest: Manifest, tolerance: float | None = None) -> list[Agreement]:
    """Row by row how far another version's answer agrees with the champion's, whose manifest this is."""
    pairs = zip(said(champion, manifest), said(other, manifest), strict=True)
    near = TOLERANCE if tolerance is None else tolerance
    return [_agreement(champion.outputs, other.outputs, row, mine, its, near) for row, (mine, its) in enumerate(pairs)]


def _agreement(champion: Tensors, other: Tensors, row: int, mine: Said, its: Said, tolerance: float) -> Agreement:
    differences = [_difference(champion[name][row], other[name][row]) for name in champion if name in other]
    if mine.label is not None:
        agrees = mine.label == its.label
    else:
        agrees = all(_are_close(champion[name][row], other[name][row], tolerance) for name in champion)
    largest = max((float(each.max(initial=0)) for each in differences), default=0.0)
    mean = float(np.mean([float(each.mean()) for each in differences if each.size])) if differences else 0.0
    return Agreement(mine, its, mean, largest, agrees)


def _are_close(mine: npt.NDArray[Any], its: npt.NDArray[Any], tolerance: float) -> bool:
    if np.shape(mine) != np.shape(its):
        return False
    if np.asarray(mine).dtype.kind not in "biuf":
        return bool(np.all(mine == its))
    return bool(np.allclose(mine, its, rtol=tolerance, atol=tolerance))


def _difference(mine: npt.NDArray[Any], its: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if np.shape(mine) != np.shape(its):  # of variable length
        return np.ones(1)
    if np.asarray(mine).dtype.kind not in "biuf":  # text
        return np.asarray(mine != its, np.float64)
    return np.abs(np.asarray(mine, np.float64) - np.asarray(its, np.float64))
