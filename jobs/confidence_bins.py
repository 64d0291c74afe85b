"""Bins of equal width in which confidence is held against accuracy."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10


def bins_of(confidence: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The bin of each confidence in [0, 1]: from above its lower edge up to its upper; the first has 0 too."""
    bins: npt.NDArray[np.int64] = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins
