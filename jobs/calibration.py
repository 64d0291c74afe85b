"""Which rows show what a model will really see: what int8 is calibrated with, and other ones to judge it by."""

from dataclasses import dataclass, replace

import numpy as np

from jobs.measurement import Validation
from jobs.photographs import are_for, photographs
from models.preprocessing import Preprocessing, preprocess_all
from models.signature import Tensors, rows_of

CALIBRATION_ROWS = 128
JUDGING_ROWS = 256
FEWEST_ROWS = 16
"""Fewer tell too little of a model to give up precision for."""

PHOTOGRAPHS = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by input name: some to calibrate with, others to judge by, and where they come from."""

    calibration: Tensors
    judging: Tensors
    origin: str


def split(rows: Tensors, origin: str) -> Rows | str:
    """Take one row in three to calibrate int8 with and judge by the others; why not, where they are too few."""
    count = rows_of(rows)
    if count < FEWEST_ROWS:
        return f"too few {origin} to tell what it loses: {count} of at least {FEWEST_ROWS} (--calibration)"
    chosen = np.arange(count) % 3 == 0
    return Rows(_spread(rows, chosen, CALIBRATION_ROWS), _spread(rows, ~chosen, JUDGING_ROWS), origin)


def split_validation(validation: Validation) -> tuple[Rows | str, Validation]:
    """Take rows to calibrate with out of the labelled ones; accuracy is measured on the rest."""
    rows = split(validation.inputs, "validation rows")
    if isinstance(rows, str):
        return rows, validation
    taken = np.arange(len(validation)) % 3 == 0
    left = Validation(_take(validation.inputs, np.flatnonzero(~taken)), validation.classes[~taken])
    return replace(rows, judging=_spread(left.inputs, np.ones(len(left), bool), JUDGING_ROWS)), left


def judged_by(calibration: Tensors, validation: Validation) -> Rows:
    """Calibrate with rows of their own, judge by the labelled ones."""
    every = np.ones(rows_of(calibration), bool), np.ones(len(validation), bool)
    return Rows(
        _spread(calibration, every[0], CALIBRATION_ROWS),
        _spread(validation.inputs, every[1], JUDGING_ROWS),
        "calibration rows",
    )


def sample_photographs(name: str, preprocessing: Preprocessing) -> Rows | str:
    """Rows for an image model without rows of its own."""
    if not are_for(preprocessing):
        return "the sample photographs are too small to tell what it loses; give rows with --calibration"
    files = photographs(preprocessing, PHOTOGRAPHS)
    return split({name: preprocess_all(files, preprocessing)}, "windows of sample photographs")


def _spread(rows: Tensors, among: np.ndarray[tuple[int], np.dtype[np.bool_]], most: int) -> Tensors:
    """At most that many of the marked rows, evenly spread."""
    indices = np.flatnonzero(among)
    return _take(rows, indices[np.linspace(0, len(indices) - 1, min(most, len(indices))).astype(int)])


def _take(rows: Tensors, indices: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Tensors:
    return {name: array[indices] for name, array in rows.items()}
