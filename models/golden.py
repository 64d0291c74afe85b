"""Golden inputs and outputs: what a replica must reproduce before it is ready."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import InvalidVersion
from models.signature import Tensors

GOLDEN = "golden.npz"
RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-4


def write_golden(directory: Path, inputs: Tensors, outputs: Tensors) -> None:
    """Write `golden.npz` with every array under `input:NAME` or `output:NAME`."""
    arrays = {f"input:{name}": _storable(array) for name, array in inputs.items()}
    arrays |= {f"output:{name}": _storable(array) for name, array in outputs.items()}
    np.savez(directory / GOLDEN, allow_pickle=False, **arrays)


def read_golden(directory: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
    """Read (inputs, outputs). Raises InvalidVersion where they cannot be read."""
    try:
        arrays = read_arrays(directory / GOLDEN)
    except ValueError as error:
        raise InvalidVersion(f"{GOLDEN} cannot be read: {error}") from None
    inputs = {key[6:]: array for key, array in arrays.items() if key.startswith("input:")}
    outputs = {key[7:]: array for key, array in arrays.items() if key.startswith("output:")}
    return inputs, outputs


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read an .npz file of arrays by name; text becomes object arrays. Raises ValueError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: _runnable(archive[key]) for key in archive}
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"not an .npz file of arrays ({type(error).__name__})") from None


def check_rows(outputs: Tensors, rows: int) -> None:
    """Check that there is one row of output per row of input, and no NaN. Raises InvalidVersion."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise InvalidVersion(
                f"output {name!r} has shape {list(array.shape)} for {rows} rows: one per row is needed"
            )
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise InvalidVersion(f"output {name!r} holds NaN for the golden inputs: give inputs that suit the model")


def check_golden(expected: Tensors, got: Tensors, max_abs_diff: float = 0.0) -> None:
    """Compare outputs. `max_abs_diff` is what the artifact differed by when it was published.

    Raises InvalidVersion that names the output and how far off it is.
    """
    for name, want in expected.items():
        if name not in got:
            raise InvalidVersion(f"golden check failed: output {name!r} is missing")
        have = got[name]
        if have.shape != want.shape:
            raise InvalidVersion(
                f"golden check failed: output {name!r} has shape {list(have.shape)}, expected {list(want.shape)}"
            )
        if want.dtype.kind in "OUS":
            close = _same_text(have, want)
        else:
            a, b = have.astype(np.float64), want.astype(np.float64)
            close = np.allclose(a, b, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE + max_abs_diff, equal_nan=True)
        if not close:
            raise InvalidVersion(f"golden check failed: output {name!r} is off by {largest_difference(want, have):.3g}")


def largest_difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Largest absolute difference; inf where shapes, text or NaNs differ."""
    if one.shape != other.shape:
        return float("inf")
    if one.dtype.kind in "OUS":
        return 0.0 if _same_text(one, other) else float("inf")
    a, b = one.astype(np.float64), other.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return float("inf")
    return float(np.max(np.abs(np.nan_to_num(a) - np.nan_to_num(b)), initial=0.0))


def _same_text(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    return bool((np.asarray(one, str) == np.asarray(other, str)).all())


def _storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(str) if array.dtype.kind == "O" else array


def _runnable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else array
