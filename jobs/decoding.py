"""Whether an image model may be given JPEGs that the decoder itself made smaller."""

import time

import numpy as np
import numpy.typing as npt

from jobs.measurement import Comparison, compare, run_rows
from jobs.photographs import are_for, photographs, pixels
from jobs.tolerance import Tolerance
from models.backends import Backend
from models.errors import ModelFailed
from models.manifest import DecodingCheck, OutputKind
from models.preprocessing import Preprocessing

PHOTOGRAPHS = 100


def choose_decoding(
    preprocessing: Preprocessing, backend: Backend, output: OutputKind, tolerance: Tolerance, wanted: bool | None
) -> tuple[Preprocessing, DecodingCheck | None]:
    """Switch scaled decoding on where the answers stay within the tolerance, or as `wanted`; say what it does.

    It is not measured where there are no photographs for the model, or where the model fails on them.
    """
    full = preprocessing.model_copy(update={"scaled_decode": False})
    scaled = preprocessing.model_copy(update={"scaled_decode": True})
    unmeasured = scaled if wanted else full, None
    if not are_for(preprocessing):
        return unmeasured
    files = photographs(preprocessing, PHOTOGRAPHS)
    (full_s, full_pixels), (scaled_s, scaled_pixels) = _timed(files, full), _timed(files, scaled)
    name = backend.signature.inputs[0].name
    try:
        reference = run_rows(backend, {name: full_pixels})
        comparison = compare(run_rows(backend, {name: scaled_pixels}), reference, output)
    except ModelFailed:
        return unmeasured
    used, verdict = _verdict(comparison, tolerance, wanted)
    difference = np.abs(full_pixels.astype(np.int16) - scaled_pixels)
    check = DecodingCheck(
        rows=comparison.rows,
        agreement=comparison.agreement,
        relative_diff=comparison.relative_diff,
        mean_pixel_diff=float(difference.mean()),
        max_pixel_diff=int(difference.max()),
        time_ratio=scaled_s / full_s,
        verdict=verdict,
    )
    return scaled if used else full, check


def _verdict(comparison: Comparison, tolerance: Tolerance, wanted: bool | None) -> tuple[bool, str]:
    outside = comparison.outside(tolerance)
    if wanted is not None:
        return wanted, f"{'on' if wanted else 'off'}, as asked for"
    return outside is None, "on: it is within the tolerance" if outside is None else f"off: {outside}"


def _timed(files: list[bytes], preprocessing: Preprocessing) -> tuple[float, npt.NDArray[np.uint8]]:
    started = time.process_time()
    made = pixels(files, preprocessing)
    return time.process_time() - started, made
