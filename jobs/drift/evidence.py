"""What the plots of a drift report need, beside what report.json says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_SAMPLES = 5000
"""Values of a column that are kept on each side."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Values of one column without nulls: floats, or strings where it is categorical."""

    column: str
    reference: npt.NDArray[Any]
    current: npt.NDArray[Any]

    @property
    def is_numeric(self) -> bool:
        """Whether they are numbers."""
        return bool(np.issubdtype(self.reference.dtype, np.number))


@dataclass(frozen=True, slots=True)
class Hour:
    """The window's traffic in one hour (UTC); `predictions` and `errors` are what its rows stand for."""

    start: datetime
    predictions: float
    errors: float
    confidence: float | None = None  # mean
    accuracy: float | None = None  # of those with feedback
    labelled: int = 0


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Predictions of like confidence: its mean, the share of them that were right, how many they are."""

    confidence: float
    accuracy: float
    rows: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """`samples` are of every column, the most changed first; `class_shares` are (reference, current) by label.

    The calibrations are empty where there are no true labels.
    """

    samples: tuple[Samples, ...] = ()
    class_shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    hours: tuple[Hour, ...] = ()
    reference_calibration: tuple[CalibrationBin, ...] = ()
    calibration: tuple[CalibrationBin, ...] = ()
