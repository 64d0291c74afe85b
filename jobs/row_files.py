"""Rows as people keep them: arrays in an .npz file, or a directory of images for each class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobs.measurement import Validation
from models.errors import InvalidRequest, TiltyardError
from models.golden import read_arrays
from models.preprocessing import Preprocessing, preprocess


def read_inputs(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read golden inputs from an .npz file. Raises InvalidRequest."""
    try:
        return read_arrays(path)
    except ValueError as error:
        raise InvalidRequest(f"{path}: expected an .npz file with one array per input: {error}") from None


def read_labelled(path: Path) -> Validation:
    """Read labelled rows from an .npz file that also holds `classes`. Raises InvalidRequest."""
    inputs = read_inputs(path)
    classes = inputs.pop("classes", None)
    if classes is None or classes.ndim != 1 or classes.dtype.kind not in "iu" or not inputs:
        raise InvalidRequest(f"{path}: expected one array per input, and `classes`: the index of each row's right one")
    if any(len(array) != len(classes) for array in inputs.values()):
        raise InvalidRequest(f"{path}: every array needs as many rows as `classes`, which has {len(classes)}")
    return Validation(inputs, classes.astype(np.int64))


def read_image_directory(
    directory: Path, input_name: str, preprocessing: Preprocessing, labels: Sequence[str] | None
) -> Validation:
    """Read and preprocess every image in `directory/<class>/`, where the class is one of `labels`, or its index.

    Hidden files are left out. Raises InvalidRequest naming the directory or file that is wrong.
    """
    classes = {name: index for index, name in enumerate(labels)} if labels is not None else {}
    files, pixels, right = [], [], []
    for kind in sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith(".")):
        index = classes.get(kind.name) if labels is not None else _index(kind.name)
        if index is None:
            expected = "one of --labels" if labels is not None else "the index of a class, or give --labels"
            raise InvalidRequest(f"--validation {kind}: expected directories named as classes, each {expected}")
        for path in sorted(path for path in kind.iterdir() if path.is_file() and not path.name.startswith(".")):
            files.append(path.read_bytes())
            try:
                pixels.append(preprocess(files[-1], preprocessing))
            except TiltyardError as error:
                raise InvalidRequest(f"--validation {path}: {error.message}") from None
            right.append(index)
    if not files:
        raise InvalidRequest(f"--validation {directory}: there is no image in a directory of it")
    return Validation({input_name: np.stack(pixels)}, np.array(right, np.int64), files)


def _index(name: str) -> int | None:
    return int(name) if name.isascii() and name.isdecimal() else None
