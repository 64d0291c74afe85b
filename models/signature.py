"""Named inputs and outputs of a model, with dtype and shape, and the reading of JSON values against them."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from models.errors import InvalidTensor

Tensors = Mapping[str, npt.NDArray[Any]]
"""Arrays by name; the first axis of each is the batch."""

MAX_DIMENSIONS = 16


class TensorSpec(BaseModel):
    """One input or output: its name, numpy dtype (`string` for text) and shape; None is any size.

    The first dimension is the batch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as numpy knows it (object for text)."""
        return np.dtype(object if self.dtype == "string" else self.dtype)

    @property
    def row(self) -> str:
        """Shape of one row, for messages: `float32 [3, ?]`."""
        return f"{self.dtype} [{', '.join('?' if d is None else str(d) for d in self.shape[1:])}]"

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name}: {self.dtype} [{dims}]"

    def check(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array in this dtype. Raises InvalidTensor naming the input, what was expected and what came."""
        rows = array.shape[1:]
        expected = self.shape[1:]
        if len(rows) != len(expected) or any(e not in (None, r) for e, r in zip(expected, rows, strict=True)):
            raise InvalidTensor(f"input {self.name!r}: expected {self.row} per instance, got shape {list(rows)}")
        return self._cast(array)

    def _cast(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        want = self.numpy_dtype
        if array.dtype == want:
            return array
        if not _castable(array.dtype.kind, want.kind):
            raise InvalidTensor(
                f"input {self.name!r}: expected {self.dtype} values, got {_kind_name(array.dtype.kind)}"
            )
        if want.kind in "iu" and array.size:
            limits = np.iinfo(want)
            if array.min() < limits.min or array.max() > limits.max:
                raise InvalidTensor(
                    f"input {self.name!r}: expected {self.dtype} values between {limits.min} and {limits.max}"
                )
        with np.errstate(over="ignore"):
            cast = array.astype(want)
        if want.kind == "f" and not np.isfinite(cast).all():
            raise InvalidTensor(f"input {self.name!r}: a value is too large for {self.dtype}")
        return cast


class Signature(BaseModel):
    """What a model takes and gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batch_size(self) -> int | None:
        """The batch size the model was exported with, or None if it takes any."""
        sizes = {spec.shape[0] for spec in self.inputs}
        return sizes.pop() if len(sizes) == 1 else None

    def check(self, inputs: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Return the inputs in the signature's dtypes. Raises InvalidTensor."""
        names = {spec.name for spec in self.inputs}
        if unknown := sorted(set(inputs) - names):
            raise InvalidTensor(f"unknown input {unknown[0]!r}; the model takes {_listed(names)}")
        if missing := sorted(names - set(inputs)):
            raise InvalidTensor(f"input {missing[0]!r} is missing; the model takes {_listed(names)}")
        checked = {spec.name: spec.check(inputs[spec.name]) for spec in self.inputs}
        rows = {name: len(array) for name, array in checked.items()}
        if len(set(rows.values())) > 1:
            raise InvalidTensor(f"every input needs the same number of rows, got {rows}")
        return checked

    def read_instances(self, instances: Any) -> dict[str, npt.NDArray[Any]]:
        """Read TensorFlow Serving's row format: a list of values (one input) or of {name: value} (several).

        Source: https://www.tensorflow.org/tfx/serving/api_rest#specifying_input_tensors_in_row_format
        """
        if not isinstance(instances, list) or not instances:
            raise InvalidTensor("'instances' must be a list of at least one instance")
        first = instances[0]
        named = isinstance(first, dict) and set(first) != {"b64"}
        if not named:
            if len(self.inputs) != 1:
                takes = _listed(spec.name for spec in self.inputs)
                raise InvalidTensor(
                    f"the model has {len(self.inputs)} inputs, so each instance is an object of {takes}"
                )
            return self.check({self.inputs[0].name: read_values(self.inputs[0].name, instances)})
        names = set(first)
        for index, instance in enumerate(instances):
            if not isinstance(instance, dict) or set(instance) != names:
                raise InvalidTensor(f"instance {index} does not have the same inputs as instance 0: {_listed(names)}")
        return self.check({n: read_values(n, [instance[n] for instance in instances]) for n in sorted(names)})


def read_values(name: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    """Turn nested JSON lists into an array. Raises InvalidTensor for ragged, mixed or too deep lists and nulls."""
    if _depth(values) > MAX_DIMENSIONS:
        raise InvalidTensor(f"input {name!r}: lists are nested more than {MAX_DIMENSIONS} deep")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "UO":
            array = _read_strings(name, values)
    except (ValueError, OverflowError):
        raise InvalidTensor(f"input {name!r}: rows have different lengths; a tensor needs equal ones") from None
    return array


def _read_strings(name: str, values: Sequence[Any]) -> npt.NDArray[Any]:
    array = np.asarray(values, dtype=object)
    for index, value in np.ndenumerate(array):
        if isinstance(value, dict) and set(value) == {"b64"}:
            array[index] = base64.b64decode(value["b64"], validate=True)
        elif isinstance(value, list):
            raise ValueError
        elif not isinstance(value, str):
            raise InvalidTensor(f"input {name!r}: expected nested lists of numbers, of booleans or of strings")
    return array


def _depth(values: Any) -> int:
    depth = 0
    while isinstance(values, list):
        depth += 1
        values = values[0] if values else None
    return depth


def _castable(have: str, want: str) -> bool:
    """Whether numpy kind `have` may become `want` without losing meaning; float16 and bfloat16 count as floats."""
    return want in {"b": "b", "i": "iufV", "u": "iufV", "f": "fV", "O": "O"}.get(have, "")


def _kind_name(kind: str) -> str:
    names = {"b": "booleans", "i": "integers", "u": "integers", "f": "decimals", "O": "strings"}
    return names.get(kind, "something else")


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(names))
