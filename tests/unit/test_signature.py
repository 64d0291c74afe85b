import contextlib
import tracemalloc
from typing import Any

import numpy as np
import pytest

from models.errors import InvalidTensor
from models.json_tensors import read_instances
from models.signature import Signature, TensorSpec
from tests.tiny import floats


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs=inputs, outputs=())


FLOATS = TensorSpec(name="x", dtype="float32", shape=(None, 2))
INTEGERS = TensorSpec(name="ids", dtype="int8", shape=(None, None))
STRINGS = TensorSpec(name="text", dtype="string", shape=(None,))
BOOLEANS = TensorSpec(name="flags", dtype="bool", shape=(None, 1))


@pytest.mark.parametrize(
    ("spec", "instances", "expected"),
    [
        pytest.param(FLOATS, [[1, 2.5]], floats([[1, 2.5]]), id="floats"),
        pytest.param(FLOATS, [{"x": [1, 2]}, {"x": [3, 4]}], floats([[1, 2], [3, 4]]), id="named"),
        pytest.param(INTEGERS, [[1, 2, 3]], np.array([[1, 2, 3]], np.int8), id="integers of any length"),
        pytest.param(STRINGS, ["a", "b"], np.array(["a", "b"], object), id="strings"),
        pytest.param(STRINGS, [{"b64": "aGk="}], np.array([b"hi"], object), id="base64"),
        pytest.param(BOOLEANS, [[True], [False]], np.array([[True], [False]]), id="booleans"),
    ],
)
def test_instances_are_read(spec: TensorSpec, instances: Any, expected: Any) -> None:
    array = read_instances(signature(spec), instances)[spec.name]
    assert array.dtype == spec.numpy_dtype
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("spec", "instances", "message"),
    [
        pytest.param(FLOATS, [], "at least one instance", id="none"),
        pytest.param(FLOATS, "text", "must be a list", id="not a list"),
        pytest.param(FLOATS, [[1, 2, 3]], "'x': expected float32 [2] per instance, got shape [3]", id="shape"),
        pytest.param(FLOATS, [1, 2], "'x': expected float32 [2] per instance, got shape []", id="rank"),
        pytest.param(FLOATS, [[1, 2], [3]], "'x': rows have different lengths", id="ragged"),
        pytest.param(FLOATS, [["a", "b"]], "'x': expected float32 values, got strings", id="strings for floats"),
        pytest.param(FLOATS, [[True, False]], "'x': expected float32 values, got booleans", id="booleans for floats"),
        pytest.param(FLOATS, [[1, None]], "'x': expected float32 values, got null", id="null"),
        pytest.param(FLOATS, [[1, "a"]], "'x': expected float32 values, got strings", id="mixed"),
        pytest.param(FLOATS, [[1e300, 0]], "'x': a value is too large for float32", id="overflow"),
        pytest.param(FLOATS, [{"y": [1, 2]}], "unknown input 'y'; the model takes 'x'", id="unknown input"),
        pytest.param(FLOATS, [{"x": [1, 2]}, [3, 4]], "instance 1 does not have the same inputs", id="mixed formats"),
        pytest.param(INTEGERS, [[1.5]], "'ids': expected int8 values, got decimals", id="decimals for integers"),
        pytest.param(INTEGERS, [[300]], "'ids': expected int8 values between -128 and 127", id="out of range"),
        pytest.param(INTEGERS, [[2**70]], "'ids': a value is too large for int8", id="huge integer"),
        pytest.param(STRINGS, [{"b64": "%"}], "'text': an object must be", id="bad base64"),
        pytest.param(STRINGS, [{"b64": 5}], "'text': an object must be", id="base64 that is a number"),
        pytest.param(STRINGS, [{"c64": "a", "b64": "a"}], "unknown input 'b64'", id="not base64"),
        pytest.param(STRINGS, [1], "'text': expected string values, got integers", id="numbers for strings"),
        pytest.param(STRINGS, [["a"], ["b", "c"]], "'text': rows", id="ragged strings"),
        pytest.param(FLOATS, [{"b64": "aGk="}], "'x': expected float32 values, got objects", id="base64 for floats"),
    ],
)
def test_bad_instances_name_the_input_and_what_was_expected(spec: TensorSpec, instances: Any, message: str) -> None:
    with pytest.raises(InvalidTensor) as raised:
        read_instances(signature(spec), instances)
    assert message in raised.value.message


def test_too_deep_lists_are_refused() -> None:
    deep: Any = 1.0
    for _ in range(60):
        deep = [deep]
    with pytest.raises(InvalidTensor, match="nested more than 16 deep"):
        read_instances(signature(FLOATS), deep)


@pytest.mark.parametrize("spec", [FLOATS, STRINGS], ids=["numbers", "strings"])
def test_one_long_text_does_not_cost_its_length_in_every_row(spec: TensorSpec) -> None:
    """numpy would make 100,000 texts of 100,000 characters of it: 40 GB."""
    tracemalloc.start()
    with contextlib.suppress(InvalidTensor):
        read_instances(signature(spec), ["x" * 100_000, *["y"] * 100_000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_no_rows_are_refused() -> None:
    with pytest.raises(InvalidTensor, match="no row"):
        signature(FLOATS).check({"x": np.zeros((0, 2), np.float32)})


def test_several_inputs_need_names() -> None:
    both = signature(FLOATS, TensorSpec(name="y", dtype="float32", shape=(None, 1)))
    with pytest.raises(InvalidTensor, match="2 inputs, so each instance is an object of 'x', 'y'"):
        read_instances(both, [[1, 2]])
    with pytest.raises(InvalidTensor, match="input 'y' is missing"):
        read_instances(both, [{"x": [1, 2]}])
    assert set(read_instances(both, [{"x": [1, 2], "y": [3]}])) == {"x", "y"}


def test_rows_must_agree() -> None:
    both = signature(FLOATS, TensorSpec(name="y", dtype="float32", shape=(None, 1)))
    with pytest.raises(InvalidTensor, match="same number of rows"):
        both.check({"x": np.zeros((2, 2), np.float32), "y": np.zeros((3, 1), np.float32)})


def test_fixed_batch_is_known() -> None:
    assert signature(TensorSpec(name="x", dtype="float32", shape=(4, 2))).batch_size == 4
    assert signature(FLOATS).batch_size is None
