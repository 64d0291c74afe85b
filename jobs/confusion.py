"""Which class was said where another was true, and how well each class is told."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.agreement_matrix import natural_order
from jobs.estimates import Floats

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Labelled predictions as arrays: the classes as numbers in the order of `classes`, and what each stands for."""

    classes: tuple[str, ...]
    truth: Codes
    said: Codes
    confidence: Floats
    weight: Floats

    def where(self, keep: npt.NDArray[Any]) -> "Answers":
        """Some of them."""
        arrays = (self.truth, self.said, self.confidence, self.weight)
        return Answers(self.classes, *(each[keep] for each in arrays))

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Which ones say what is true."""
        return self.truth == self.said


@dataclass(frozen=True, slots=True)
class Confused:
    """How many labelled predictions say one class where one (the same, perhaps) is true; `weight` they stand for."""

    true: str
    said: str
    labels: int
    weight: float


@dataclass(frozen=True, slots=True)
class ClassQuality:
    """One class: `precision` of what was said to be it, `recall` of what is; None where there is nothing to tell from.

    `labels` is how many are it, `weight` what they stand for.
    """

    name: str
    labels: int
    weight: float
    precision: float | None
    recall: float | None
    f1: float | None


def answers(labelled: pa.Table) -> Answers:
    """Of a table of `jobs.labelled`."""
    said, truth = labelled["label"], labelled["true_label"]
    names = {*pc.unique(said).to_pylist(), *pc.unique(truth).to_pylist()}
    classes = sorted(names, key=natural_order)
    values = pa.array(classes, pa.string())
    return Answers(
        tuple(classes),
        np.asarray(pc.index_in(truth, value_set=values), dtype=np.int64),
        np.asarray(pc.index_in(said, value_set=values), dtype=np.int64),
        np.asarray(labelled["confidence"].cast(pa.float64()), dtype=np.float64),
        np.asarray(labelled["weight"], dtype=np.float64),
    )


def confusion(of: Answers) -> tuple[Confused, ...]:
    """Every pair that comes up, by true class."""
    pairs, index = np.unique(of.truth * len(of.classes) + of.said, return_inverse=True)
    labels, weights = np.bincount(index), np.bincount(index, of.weight)
    return tuple(
        Confused(of.classes[pair // len(of.classes)], of.classes[pair % len(of.classes)], int(count), float(weight))
        for pair, count, weight in zip(pairs.tolist(), labels, weights, strict=True)
    )


def class_qualities(of: Answers) -> tuple[ClassQuality, ...]:
    """Every class that was said or is true, in natural order."""
    count = len(of.classes)
    labels = np.bincount(of.truth, minlength=count)
    true, said = (np.bincount(codes, of.weight, count) for codes in (of.truth, of.said))
    right = np.bincount(of.truth[of.is_right], of.weight[of.is_right], count)
    return tuple(
        ClassQuality(
            name,
            int(labels[at]),
            float(true[at]),
            _ratio(right[at], said[at]),
            _ratio(right[at], true[at]),
            _ratio(2 * right[at], said[at] + true[at]),
        )
        for at, name in enumerate(of.classes)
        if true[at] or said[at]
    )


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
