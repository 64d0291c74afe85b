"""Whether an image model may be given JPEGs that the decoder itself made smaller."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from jobs.measurement import Comparison, Validation, compare, run_rows, share_right
from jobs.photographs import are_for, photographs
from jobs.tolerance import Tolerance
from models.backends import Backend
from models.errors import ModelFailed
from models.manifest import DecodingCheck, OutputKind
from models.preprocessing import Preprocessing, preprocess_all

PHOTOGRAPHS = 100


def choose_decoding(
    preprocessing: Preprocessing,
    backend: Backend,
    output: OutputKind,
    tolerance: Tolerance,
    wanted: bool | None,
    validation: Validation | None,
) -> tuple[Preprocessing, DecodingCheck | None]:
    """Switch scaled decoding on where the answers stay within the tolerance, or as `wanted`; say what it does.

    Judged by the labelled files, or by sample photographs. It is not measured where there are neither, or where the
    model fails on them.
    """
    full = preprocessing.model_copy(update={"scaled_decode": False})
    scaled = preprocessing.model_copy(update={"scaled_decode": True})
    unmeasured = scaled if wanted else full, None
    labelled = validation if validation is not None and validation.files else None
    if labelled is None and not are_for(preprocessing):
        return unmeasured
    files = labelled.files if labelled else photographs(preprocessing, PHOTOGRAPHS)
    (full_s, full_pixels), (scaled_s, scaled_pixels) = _timed(files, full), _timed(files, scaled)
    name = backend.signature.inputs[0].name
    try:
        reference, answers = run_rows(backend, {name: full_pixels}), run_rows(backend, {name: scaled_pixels})
    except ModelFailed:
        return unmeasured
    comparison = compare(answers, reference, output)
    if labelled:
        loss = share_right(reference, labelled.classes) - share_right(answers, labelled.classes)
        comparison = replace(comparison, accuracy_loss=loss)
    used, verdict = _verdict(comparison, tolerance, wanted)
    difference = np.abs(full_pixels.astype(np.int16) - scaled_pixels)
    check = DecodingCheck(
        rows=comparison.rows,
        agreement=comparison.agreement,
        relative_diff=comparison.relative_diff,
        accuracy_loss=comparison.accuracy_loss,
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


def _timed(files: Sequence[bytes], preprocessing: Preprocessing) -> tuple[float, npt.NDArray[np.uint8]]:
    started = time.process_time()
    made = preprocess_all(files, preprocessing)
    return time.process_time() - started, made
