"""JSON values read as tensors: TensorFlow Serving's row format, held against a signature."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from models.errors import InvalidTensor
from models.signature import Signature, TensorSpec, listed

MAX_DIMENSIONS = 16


def read_instances(signature: Signature, instances: Any) -> dict[str, npt.NDArray[Any]]:
    """Read TensorFlow Serving's row format: a list of values (one input) or of {name: value} (several).

    Raises InvalidTensor.
    Source: https://www.tensorflow.org/tfx/serving/api_rest#specifying_input_tensors_in_row_format
    """
    if not isinstance(instances, list) or not instances:
        raise InvalidTensor("'instances' must be a list of at least one instance")
    first = instances[0]
    named = isinstance(first, dict) and set(first) != {"b64"}
    if not named:
        if len(signature.inputs) != 1:
            takes = listed(spec.name for spec in signature.inputs)
            raise InvalidTensor(
                f"the model has {len(signature.inputs)} inputs, so each instance is an object of {takes}"
            )
        return signature.check({signature.inputs[0].name: read_values(signature.inputs[0], instances)})
    names = set(first)
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict) or set(instance) != names:
            raise InvalidTensor(f"instance {index} does not have the same inputs as instance 0: {listed(names)}")
    signature.check_names(names)
    return signature.check(
        {s.name: read_values(s, [instance[s.name] for instance in instances]) for s in signature.inputs}
    )


def read_values(spec: TensorSpec, values: Sequence[Any]) -> npt.NDArray[Any]:
    """Turn nested JSON lists into an array. Raises InvalidTensor for ragged, mixed or too deep lists and nulls."""
    if _depth(values) > MAX_DIMENSIONS:
        raise InvalidTensor(f"input {spec.name!r}: lists are nested more than {MAX_DIMENSIONS} deep")
    # Looked at before numpy sees them: it would turn numbers beside one long text into texts of that length each.
    if wrong := _leaf_types(values) - _LEAVES[spec.numpy_dtype.kind]:
        came = ", ".join(sorted(_LEAF_NAMES.get(kind, "something else") for kind in wrong))
        raise InvalidTensor(f"input {spec.name!r}: expected {spec.dtype} values, got {came}")
    try:
        array = np.asarray(values, object if spec.dtype == "string" else None)
    except ValueError:
        raise InvalidTensor(f"input {spec.name!r}: rows have different lengths; a tensor needs equal ones") from None
    if spec.dtype == "string":
        return _read_strings(spec.name, array)
    if array.dtype.kind == "O":
        raise InvalidTensor(f"input {spec.name!r}: a value is too large for {spec.dtype}")
    return array


_LEAVES: dict[str, set[type]] = {"b": {bool}, "O": {str, dict}, "f": {int, float}, "i": {int, float}, "u": {int, float}}
_LEAF_NAMES = {
    str: "strings",
    bool: "booleans",
    int: "integers",
    float: "decimals",
    dict: "objects",
    type(None): "null",
}


def _leaf_types(values: Sequence[Any]) -> set[type]:
    """The types of everything in nested lists that is no list."""
    types: set[type] = set()
    lists = [values]
    while lists:
        level = lists.pop()
        found = set(map(type, level))
        if list in found:
            lists.extend(value for value in level if type(value) is list)
        types |= found
    return types - {list}


def _read_strings(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    for index, value in np.ndenumerate(array):
        if isinstance(value, list):
            raise InvalidTensor(f"input {name!r}: rows have different lengths; a tensor needs equal ones")
        if isinstance(value, dict):
            array[index] = _read_base64(name, value)
    return array


def _read_base64(name: str, value: dict[str, Any]) -> bytes:
    encoded = value.get("b64") if set(value) == {"b64"} else None
    try:
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else _no_base64(name)
    except binascii.Error:
        return _no_base64(name)


def _no_base64(name: str) -> NoReturn:
    raise InvalidTensor(f'input {name!r}: an object must be {{"b64": ...}} with valid base64') from None


def _depth(values: Any) -> int:
    depth = 0
    while isinstance(values, list):
        depth += 1
        values = values[0] if values else None
    return depth
