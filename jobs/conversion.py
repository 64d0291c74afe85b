"""From a model someone made to artifacts that take what travels: uint8 images, or tensors as they are.

Scaling and layout go into the graph, so that no client and no server can get them wrong.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnx.compose
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper, numpy_helper

from jobs.converter import run_converter
from jobs.embedding import without_embedding
from jobs.tensorflow_import import import_tensorflow
from models.backends import SIGNATURE, load_backend
from models.errors import ConversionFailed
from models.preprocessing import Layout, Preprocessing
from models.signature import Signature, Tensors, TensorSpec

OPSET = 18
IMAGE = "image"
"""Name of the uint8 input that a wrapped model takes."""

Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the model wants of a pixel: (pixel * scale - mean) / std, channel by channel, in this layout."""

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "nhwc"

    def apply(self, pixels: npt.NDArray[np.uint8], dtype: str) -> npt.NDArray[Any]:
        """Scale uint8 [rows, height, width, channels] to the model's input."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        scaled = (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std
        arranged = scaled if self.layout == "nhwc" else scaled.transpose(0, 3, 1, 2)
        return np.asarray(arranged, dtype)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How pixels become the model's only input: outside of the graph, then inside of it."""

    preprocessing: Preprocessing
    scaling: Scaling

    def fits(self, spec: TensorSpec) -> bool:
        """Whether an input takes the uint8 pixels as they come, so that nothing needs to be done in the graph."""
        return self.scaling == Scaling() and spec.dtype == "uint8" and spec.shape[1:] == self.preprocessing.shape


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it came: what it takes and gives, how to run it, and where the file is."""

    kind: Literal["savedmodel", "keras", "onnx"]
    path: Path
    signature: Signature
    run: Run
    keras_model: Any = None


def open_source(path: Path) -> Source:
    """Open a SavedModel directory, a .keras file or an .onnx file. Raises ConversionFailed or InvalidVersion."""
    if path.is_dir() and (path / "saved_model.pb").is_file():
        import_tensorflow()
        backend = load_backend("savedmodel", path)
        return Source("savedmodel", path, backend.signature, backend.run)
    if path.suffix == ".onnx" and path.is_file():
        backend = load_backend("onnx", path)
        return Source("onnx", path, backend.signature, backend.run)
    if path.suffix == ".keras" and path.is_file():
        return _open_keras(path)
    if not path.exists():
        raise ConversionFailed(f"{path} does not exist")
    raise ConversionFailed(f"{path} is neither a SavedModel directory, nor a .keras file, nor an .onnx file")


def _open_keras(path: Path) -> Source:
    import_tensorflow()
    import keras

    try:
        model = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError) as error:
        raise ConversionFailed(f"Keras cannot load {path.name}: {str(error).splitlines()[0]}") from error
    return keras_source(model, path)


def keras_source(model: Any, path: Path) -> Source:
    """A built Keras model as a source. Raises ConversionFailed for one whose inputs Keras does not know."""
    if not getattr(model, "inputs", None):
        raise ConversionFailed(f"{path.name} is not built on fixed inputs: export it as a SavedModel instead")
    signature = Signature(
        inputs=tuple(_keras_spec(tensor.name, tensor) for tensor in model.inputs),
        outputs=tuple(
            _keras_spec(name, tensor) for name, tensor in zip(_keras_output_names(model), model.outputs, strict=True)
        ),
    )

    def run(tensors: Tensors) -> Tensors:
        return {name: np.asarray(result) for name, result in _call_keras(model, signature, tensors).items()}

    return Source("keras", path, signature, run, model)


def _keras_output_names(model: Any) -> list[str]:
    """The keys of a dictionary of outputs, else the names of the layers; a Sequential model does not tell them."""
    structure = model(model.inputs[0] if len(model.inputs) == 1 else model.inputs)
    if isinstance(structure, dict):
        return sorted(structure)
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])


def _call_keras(model: Any, signature: Signature, tensors: Mapping[str, Any]) -> dict[str, Any]:
    import keras

    values = [tensors[spec.name] for spec in signature.inputs]
    results = model(values[0] if len(values) == 1 else values, training=False)
    # Flattened as Keras flattens model.outputs: a dictionary in the order of its sorted keys.
    return {spec.name: r for spec, r in zip(signature.outputs, keras.tree.flatten(results), strict=True)}


def _keras_spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name=name, dtype=str(tensor.dtype), shape=tuple(tensor.shape))


def write_savedmodel(source: Source, image: ImageInput | None, target: Path) -> None:
    """Write a SavedModel; the wrapped one takes `image`: uint8 [rows, height, width, channels]."""
    import tensorflow as tf

    if source.kind == "savedmodel" and image is None:
        shutil.copytree(source.path, target)
        return
    trackable, call = _tensorflow_callable(source)

    def serve(**tensors: Any) -> dict[str, Any]:
        if image is None:
            return call(tensors)
        spec = source.signature.inputs[0]
        return call({spec.name: _scale_in_graph(tensors[IMAGE], image.scaling, spec.dtype)})

    module = tf.Module()
    module.model = trackable
    specs = wrapped_inputs(source.signature, image)
    function = tf.function(serve).get_concrete_function(
        **{spec.name: tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in specs}
    )
    tf.saved_model.save(module, str(target), signatures={SIGNATURE: function})


def _tensorflow_callable(source: Source) -> tuple[Any, Callable[[dict[str, Any]], dict[str, Any]]]:
    import tensorflow as tf

    if source.kind == "savedmodel":
        loaded = tf.saved_model.load(str(source.path))
        return loaded, lambda tensors: dict(loaded.signatures[SIGNATURE](**tensors))
    model = source.keras_model
    return model, lambda tensors: _call_keras(model, source.signature, tensors)


def _scale_in_graph(pixels: Any, scaling: Scaling, dtype: str) -> Any:
    import tensorflow as tf

    scaled = (tf.cast(pixels, tf.float32) * scaling.scale - tf.constant(scaling.mean)) / tf.constant(scaling.std)
    return tf.cast(scaled if scaling.layout == "nhwc" else tf.transpose(scaled, (0, 3, 1, 2)), dtype)


def write_onnx(source: Source, image: ImageInput | None, target: Path) -> None:
    """Write an ONNX source as an artifact, with casting, scaling and layout in front where it takes images."""
    model = without_embedding(onnx.load(source.path))  # weights in files beside it are taken in
    try:
        if image is not None:
            model = _prepend_scaling(model, image, source.signature.inputs[0])
        onnx.save(model, target)
        onnx.checker.check_model(str(target))
    except (ValueError, EncodeError) as error:
        raise ConversionFailed(f"the model cannot be one ONNX file, which holds at most 2 GB: {error}") from error
    except onnx.checker.ValidationError as error:
        raise ConversionFailed(f"the graph with scaling is invalid: {str(error).splitlines()[0]}") from error


def _prepend_scaling(model: onnx.ModelProto, image: ImageInput, spec: TensorSpec) -> onnx.ModelProto:
    if any(name == IMAGE or name.startswith(f"{IMAGE}/") for name in _names(model.graph)):
        model = onnx.compose.add_prefix(model, "model/", rename_outputs=False)
        spec = spec.model_copy(update={"name": f"model/{spec.name}"})
    graph, scaling = model.graph, image.scaling
    steps: list[tuple[str, npt.NDArray[np.float32] | None, dict[str, Any]]] = [
        ("Cast", None, {"to": TensorProto.FLOAT}),
        ("Mul", np.asarray([scaling.scale], np.float32), {}),
        ("Sub", np.asarray(scaling.mean, np.float32), {}),
        ("Div", np.asarray(scaling.std, np.float32), {}),
    ]
    if scaling.layout == "nchw":
        steps.append(("Transpose", None, {"perm": [0, 3, 1, 2]}))
    if spec.dtype != "float32":
        steps.append(("Cast", None, {"to": helper.np_dtype_to_tensor_dtype(spec.numpy_dtype)}))
    nodes, current = [], IMAGE
    for index, (operator, constant, attributes) in enumerate(steps):
        inputs = [current]
        if constant is not None:
            inputs.append(f"{IMAGE}/constant_{index}")
            graph.initializer.append(numpy_helper.from_array(constant, inputs[1]))
        current = spec.name if index == len(steps) - 1 else f"{IMAGE}/step_{index}"
        nodes.append(helper.make_node(operator, inputs, [current], name=f"{IMAGE}/{operator}_{index}", **attributes))
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + body)
    kept = [value for value in graph.input if value.name != spec.name]
    del graph.input[:]
    shape = [spec.shape[0] or "batch", *image.preprocessing.shape]
    graph.input.extend([helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape), *kept])
    return model


def _names(graph: onnx.GraphProto) -> set[str]:
    """Names of everything that flows through a graph."""
    flowing = {name for node in graph.node for name in (*node.input, *node.output)}
    return flowing | {value.name for value in (*graph.input, *graph.output, *graph.initializer)}


def convert_to_onnx(savedmodel: Path, target: Path) -> None:
    """Convert a SavedModel with tf2onnx, in a process of its own: it can take gigabytes. Raises ConversionFailed."""
    command = [
        *(sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(savedmodel)),
        *("--signature_def", SIGNATURE, "--opset", str(OPSET), "--output", str(target)),
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    run_converter("tf2onnx", command, target, environment)
    try:
        onnx.checker.check_model(str(target))
    except onnx.checker.ValidationError as error:
        raise ConversionFailed(f"tf2onnx wrote an invalid graph: {str(error).splitlines()[0]}") from error


def wrapped_inputs(signature: Signature, image: ImageInput | None) -> tuple[TensorSpec, ...]:
    """The inputs of the artifact: those of the model, or one uint8 image."""
    if image is None:
        return signature.inputs
    rows = signature.inputs[0].shape[0]
    return (TensorSpec(name=IMAGE, dtype="uint8", shape=(rows, *image.preprocessing.shape)),)
