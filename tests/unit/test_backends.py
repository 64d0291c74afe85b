"""What only one of the backends does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from models.backends import load_backend
from models.errors import InvalidVersion, ModelFailed
from models.store import Store
from models.version import load_version
from tests.tiny import floats, lookup, save_onnx


def saved_model(path: Path, function: Any, *specs: Any, **signatures: Any) -> Path:
    module = tf.Module()
    concrete = tf.function(function).get_concrete_function(*specs)
    tf.saved_model.save(module, str(path), signatures=signatures or {"serving_default": concrete})
    return path


def test_text_comes_back_as_text(tmp_path: Path) -> None:
    text = tf.TensorSpec((None,), tf.string, name="text")
    path = saved_model(tmp_path / "m", lambda text: {"joined": tf.strings.join([text, "é"])}, text)
    outputs = load_backend("savedmodel", path).run({"text": np.array(["caf", b"\xff"], object)})
    assert outputs["joined"].tolist() == ["café", "\ufffdé"]


def test_a_tensorflow_serving_tree_is_served_as_it_stands(store: Store) -> None:
    x = tf.TensorSpec((None, 2), tf.float32, name="x")
    saved_model(store.root / "double" / "5", lambda x: {"y": 2 * x}, x)
    loaded = load_version(store, "double", 5)
    assert str(loaded.manifest.signature.inputs[0]) == "x: float32 [?, 2]"
    assert loaded.backend.run({"x": floats([[1, 2]])})["y"].tolist() == [[2, 4]]


def test_a_saved_model_without_the_signature_is_refused(tmp_path: Path) -> None:
    function = tf.function(lambda x: {"y": x}).get_concrete_function(tf.TensorSpec((None,), tf.float32, name="x"))
    path = saved_model(tmp_path / "m", lambda x: x, tf.TensorSpec((None,), tf.float32), other=function)
    with pytest.raises(InvalidVersion, match=r"no signature 'serving_default', only \['other'\]"):
        load_backend("savedmodel", path)


def test_what_a_runtime_raises_is_a_failure_of_the_model(tmp_path: Path) -> None:
    x = tf.TensorSpec((None, 2), tf.float32, name="x")
    path = saved_model(tmp_path / "m", lambda x: {"y": tf.debugging.check_numerics(x, "bad")}, x)
    with pytest.raises(ModelFailed, match="TensorFlow: InvalidArgumentError"):
        load_backend("savedmodel", path).run({"x": floats([[1, np.nan]])})
    with pytest.raises(ModelFailed, match="ONNX Runtime"):
        load_backend("onnx", lookup(tmp_path / "lookup.onnx")).run({"index": np.array([9])})


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        pytest.param(TensorProto.FLOAT, (), "input 'x' is a scalar", id="scalar"),
        pytest.param(TensorProto.BFLOAT16, ("batch",), "'x' is a tensor\\(bfloat16\\)", id="bfloat16"),
    ],
)
def test_what_cannot_be_sent_is_not_served(tmp_path: Path, kind: int, shape: Any, message: str) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    path = save_onnx(tmp_path / "m.onnx", [node], [("x", kind, shape)], [("y", kind, shape)])
    with pytest.raises(InvalidVersion, match=message):
        load_backend("onnx", path)
