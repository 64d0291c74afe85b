"""TensorFlow SavedModel, through its signature: Keras is not needed to load it."""

import importlib
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from models.backends import SIGNATURE, Provider
from models.errors import InvalidVersion, ModelFailed
from models.manifest import Precision
from models.signature import Signature, Tensors, TensorSpec


def _import_tensorflow() -> Any:
    """Import TensorFlow without the Keras that it would import only to register optimizers.

    That is 4 of 10 seconds and 140 MB. Where something imported TensorFlow before, it stays as it is.
    """
    variable = "TF_USE_LEGACY_KERAS"  # read once, while TensorFlow is imported; legacy Keras is a package of its own
    if "tensorflow" in sys.modules or variable in os.environ:
        return importlib.import_module("tensorflow")
    os.environ[variable] = "1"
    try:
        return importlib.import_module("tensorflow")
    finally:
        del os.environ[variable]


tf = _import_tensorflow()


class SavedModelBackend:
    """The `serving_default` signature of a SavedModel.

    `tf.constant` copies its array: 0.016 ms for an image, of the 14 ms that MobileNetV2 takes for it.
    """

    precision: Precision | None = None

    def __init__(self, path: Path, threads: int = 1, provider: Provider = "cpu") -> None:
        _set_device(provider)
        _set_threads(threads)
        try:
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise InvalidVersion(f"TensorFlow cannot load the SavedModel: {type(error).__name__}") from error
        if SIGNATURE not in self._model.signatures:
            raise InvalidVersion(
                f"the SavedModel has no signature {SIGNATURE!r}, only {sorted(self._model.signatures)}"
            )
        self._function = self._model.signatures[SIGNATURE]
        self.signature = Signature(
            inputs=tuple(_spec(n, t) for n, t in sorted(self._function.structured_input_signature[1].items())),
            outputs=tuple(_spec(n, t) for n, t in sorted(self._function.structured_outputs.items())),
        )
        self._dtypes = {spec.name: tf.as_dtype(spec.dtype) for spec in self.signature.inputs}

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        """It takes every size alike."""
        return ()

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch. Raises ModelFailed."""
        try:
            tensors = {name: tf.constant(array, self._dtypes[name]) for name, array in inputs.items()}
            outputs = self._function(**tensors)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise ModelFailed(f"TensorFlow: {type(error).__name__}") from error
        return {name: _decode(tensor.numpy()) for name, tensor in outputs.items()}

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        """Run one batch: a SavedModel has no embedding. Raises ModelFailed."""
        return self.run(inputs)


def _set_device(provider: Provider) -> None:
    """Hide the GPUs, or take memory of them as it is needed. Raises InvalidVersion."""
    if provider not in ("cpu", "cuda"):
        raise InvalidVersion(f"provider {provider!r} runs ONNX artifacts only; choose one with `artifact`")
    gpus = tf.config.list_physical_devices("GPU")
    if provider == "cuda" and not gpus:
        raise InvalidVersion(
            "provider 'cuda': TensorFlow sees no GPU; it needs `num_gpus` and the package tensorflow[and-cuda]"
        )
    try:
        if provider == "cpu":
            tf.config.set_visible_devices([], "GPU")
            return
        tf.config.experimental.enable_tensor_float_32_execution(False)  # golden outputs are float32
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # TensorFlow is already running here, with the devices of the first model
        pass


def _set_threads(threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # TensorFlow is already running here, with the threads of the first model
        pass


def _spec(name: str, tensor: Any) -> TensorSpec:
    if tensor.shape.rank is None:
        raise InvalidVersion(f"tensor {name!r} has no rank in the SavedModel's signature, so it cannot be served")
    return TensorSpec(name=name, dtype=tensor.dtype.name, shape=tuple(tensor.shape.as_list()))


def _decode(array: Any) -> Any:
    """Text comes as bytes; what is no UTF-8 of it is marked as such."""
    if array.dtype.kind not in "OS":
        return array
    return np.vectorize(lambda text: text.decode("utf-8", "replace"), otypes=[object])(array)
