"""What only one of the backends does."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from models.backends import Provider, load_backend
from models.errors import InvalidVersion, ModelFailed
from models.store import Store
from models.version import load_version
from tests.tiny import affine, floats, lookup, save_onnx


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


@pytest.mark.parametrize(
    ("provider", "message"),
    [
        pytest.param("cuda", "no CUDAExecutionProvider; install onnxruntime-gpu in its place", id="cuda"),
        pytest.param("tensorrt", "no TensorrtExecutionProvider; install onnxruntime-gpu in its place", id="tensorrt"),
    ],
)
def test_a_provider_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, provider: Provider, message: str
) -> None:
    if len(ort.get_available_providers()) > 2:  # CPUExecutionProvider and AzureExecutionProvider are in every build
        pytest.skip("this onnxruntime has other providers")
    with pytest.raises(InvalidVersion, match=f"provider '{provider}': this onnxruntime has {message}"):
        load_backend("onnx", affine(tmp_path / "m.onnx"), provider=provider)


def test_a_provider_that_does_not_start_is_an_error_and_not_a_silent_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with CUDA on a machine without one: ONNX Runtime itself goes on with the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(InvalidVersion, match="did not start"):
        load_backend("onnx", affine(tmp_path / "m.onnx"), provider="cuda")


def test_a_saved_model_runs_on_cuda_or_the_cpu(tmp_path: Path) -> None:
    x = tf.TensorSpec((None, 2), tf.float32, name="x")
    path = saved_model(tmp_path / "m", lambda x: {"y": 2 * x}, x)
    with pytest.raises(InvalidVersion, match="provider 'tensorrt' runs ONNX artifacts only"):
        load_backend("savedmodel", path, provider="tensorrt")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(InvalidVersion, match="TensorFlow sees no GPU"):
        load_backend("savedmodel", path, provider="cuda")


def test_threads_that_wait_leave_the_cores_to_others(tmp_path: Path) -> None:
    """Spinning threads of ONNX Runtime would take all cores for as long as requests come."""
    hidden = 512
    weights = np.random.default_rng(0).standard_normal((hidden, hidden)).astype(np.float32)
    path = save_onnx(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, ("batch", hidden))],
        [("y", TensorProto.FLOAT, ("batch", hidden))],
        {"w": weights},
    )
    backend = load_backend("onnx", path, threads=2)
    inputs = {"x": np.ones((64, hidden), np.float32)}
    backend.run(inputs)
    used = time.process_time()
    for _ in range(50):
        backend.run(inputs)
        time.sleep(0.005)
    assert time.process_time() - used < 0.1  # 0.02 s; spinning threads take 0.2 s
