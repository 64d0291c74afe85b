"""Rows whose right class is known."""

from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.drift.blocks import Integers, effect_of
from jobs.drift.frame import Frame, Numbers
from jobs.drift.intervals import Share
from jobs.estimates import kish
from models.reference import TRUE_LABEL

LEAST_LABELLED = 50
"""Labelled predictions that an accuracy is told of."""


class Labelled:
    """Rows whose right class is known."""

    def __init__(self, frame: Frame, blocks: Integers) -> None:
        known = np.array([each is not None for each in frame.texts(TRUE_LABEL)], dtype=bool)
        if not (frame.has(TRUE_LABEL) and frame.has("label")):
            known[:] = False
        chosen = frame.take(known)
        self.rows = chosen.rows
        self.truth: npt.NDArray[Any] = chosen.texts(TRUE_LABEL)
        self.is_right = (self.truth == chosen.texts("label")).astype(bool) if self.rows else np.zeros(0, dtype=bool)
        self.confidence: Numbers | None = chosen.numbers("confidence") if chosen.has("confidence") else None
        self.weights = chosen.numbers("weight") if chosen.has("weight") else np.ones(self.rows)
        self.blocks = blocks[known]

    def share_right(self, among: npt.NDArray[np.bool_] | None = None) -> Share:
        """Accuracy, of as many rows as they amount to (unequal weights: Kish 1965)."""
        of = np.ones(self.rows, dtype=bool) if among is None else among
        right, weights = self.is_right[of], self.weights[of]
        if not len(right):
            return Share(0.0, 0.0)
        effect = effect_of(right.astype(np.int64), self.blocks[of])
        return Share(float(right @ weights / weights.sum()), kish(weights) / effect)


def count_labelled(frame: Frame | None) -> int:
    """Rows whose right class is known."""
    return frame.rows - frame.table[TRUE_LABEL].null_count if frame is not None and frame.has(TRUE_LABEL) else 0


def labelled(frame: Frame, blocks: Integers) -> Labelled | None:
    """None where fewer than LEAST_LABELLED are."""
    if not frame.has(TRUE_LABEL):
        return None
    found = Labelled(frame, blocks)
    return found if found.rows >= LEAST_LABELLED else None
