"""OpenVINO, on CPUs: the ONNX artifacts in the precision that the CPU multiplies fastest, bfloat16 where it has AMX."""

import importlib
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.backends import EMBEDDING, Provider
from models.errors import InvalidVersion, ModelFailed
from models.manifest import Precision
from models.signature import Signature, Tensors, TensorSpec, rows_of


def _last_line(error: Exception, path: Path | None = None) -> str:
    """What it says, without the lines that name source files of OpenVINO, and without the directory of `path`."""
    line = str(error).strip().rpartition("\n")[2].strip()
    return line if path is None else line.replace(str(path), path.name)


def _import_openvino() -> Any:
    """Import OpenVINO, which else tells Google Analytics of it: without that package it has a stub in its place."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module("openvino")
    except ModuleNotFoundError as error:
        raise InvalidVersion("OpenVINO is not installed (pip install 'tiltyard[openvino]')") from error
    except ImportError as error:  # of its native library
        raise InvalidVersion(f"OpenVINO is installed, but does not start: {_last_line(error)}") from error


openvino = _import_openvino()

# OpenVINO's names of element types to numpy's.
DTYPES = {"f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool"} | {
    f"{sign}{bits}": f"{'u' if sign == 'u' else ''}int{bits}" for sign in "iu" for bits in (8, 16, 32, 64)
}

# Precisions, as OpenVINO spells them as element types and as capabilities of a CPU.
_PRECISIONS: dict[Precision, tuple[str, str]] = {
    "float32": ("f32", "FP32"),
    "bfloat16": ("bf16", "BF16"),
    "float16": ("f16", "FP16"),
}

_TAKEN = {"float16", "float32", "uint8", "int8", "bool"}
"""Inputs that it computes as they are: of 64 bits it drops half, and an index beyond its table gives zeros."""


class _Compiled:
    """A model for this CPU: each thread has a request of its own, which computes one batch at a time."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._own = threading.local()

    def infer(self, inputs: Tensors) -> Any:
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        return self._own.request.infer(dict(inputs), share_inputs=True, share_outputs=False)


class OpenVinoBackend:
    """An ONNX model, compiled for this CPU: half a second to load, and some 50 ms more at the first batch of each size.

    It runs on the thread that calls, with `threads` in all; batches that are asked for at once take turns. `precision`
    is what it computes in; one that the CPU does not have, or that was not asked for, is float32 or the fastest.

    A size that is prepared for takes a fifth to a third less time, and a copy of the weights (MobileNetV2 as int8: one
    row 3.9 ms in place of 5.9, each of four 2.7 in place of 3.4).
    """

    def __init__(
        self, path: Path, threads: int = 1, provider: Provider = "cpu", precision: Precision | None = None
    ) -> None:
        if provider != "cpu":
            raise InvalidVersion(f"provider {provider!r} runs no OpenVINO artifacts; choose another with `artifact`")
        self._core, self._name = openvino.Core(), path.name
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise InvalidVersion(f"OpenVINO cannot load {path.name}: {_last_line(error, path)}") from error
        self._settings: dict[str, object] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        if precision is not None:
            self._settings["INFERENCE_PRECISION_HINT"] = _supported(self._core, precision)
        self._any_size = self._compiled(None)
        self._by_size: dict[int, _Compiled] = {}
        model = self._any_size.model
        outputs = [_spec(port) for port in model.outputs]
        self.signature = Signature(
            inputs=tuple(map(_spec, model.inputs)),
            outputs=tuple(spec for spec in outputs if spec.name != EMBEDDING),
        )
        for spec in self.signature.inputs:
            if spec.dtype not in _TAKEN:
                raise InvalidVersion(f"input {spec.name!r} is {spec.dtype}, which OpenVINO does not compute exactly")
        self.precision = _precision(model.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self._all_names = [spec.name for spec in outputs]
        self._output_names = [spec.name for spec in self.signature.outputs]

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        """Compile the model for batches of these sizes too, and for no others; where it takes any number of rows only.

        Raises InvalidVersion.
        """
        if not all(spec.shape[0] is None and None not in spec.shape[1:] for spec in self.signature.inputs):
            return ()
        new = set(sizes) - set(self._by_size)
        self._by_size = {size: self._by_size.get(size) or self._compiled(size) for size in sorted(sizes)}
        return new

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch. Raises ModelFailed."""
        outputs = self.run_with_embedding(inputs)
        return {name: outputs[name] for name in self._output_names}

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        """Run one batch; what the embedding costs, it costs `run` too. Raises ModelFailed."""
        compiled = self._by_size.get(rows_of(inputs), self._any_size)
        try:
            return dict(zip(self._all_names, compiled.infer(inputs).to_tuple(), strict=True))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelFailed(f"OpenVINO: {_last_line(error)}") from error

    def _compiled(self, rows: int | None) -> _Compiled:
        try:
            model = self._model
            if rows is not None:
                model = model.clone()
                model.reshape({port: [rows, *list(port.get_partial_shape())[1:]] for port in model.inputs})
            return _Compiled(self._core.compile_model(model, "CPU", self._settings))
        except RuntimeError as error:
            raise InvalidVersion(f"OpenVINO cannot compile {self._name}: {_last_line(error)}") from error


def _supported(core: Any, precision: Precision) -> str:
    """OpenVINO's name of a precision, or of float32 where the CPU has no instructions for it."""
    name, capability = _PRECISIONS[precision]
    return name if capability in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _precision(name: str) -> Precision:
    for precision, (element_type, _) in _PRECISIONS.items():
        if element_type == name:
            return precision
    raise InvalidVersion(f"OpenVINO computes in {name} here, which a manifest does not know")


def _spec(port: Any) -> TensorSpec:
    name, kind, shape = _name(port), port.get_element_type().get_type_name(), port.get_partial_shape()
    if kind not in DTYPES:
        raise InvalidVersion(f"{name!r} is a {kind}, which is not served with OpenVINO")
    if shape.rank.is_dynamic:
        raise InvalidVersion(f"tensor {name!r} has no rank, so it cannot be served")
    dimensions = tuple(dimension.get_length() if dimension.is_static else None for dimension in shape)
    return TensorSpec(name=name, dtype=DTYPES[kind], shape=dimensions)


def _name(port: Any) -> str:
    """What the ONNX file calls it: where OpenVINO left an Identity out, its tensor has the names of both sides."""
    name = str(port.get_node().get_friendly_name()).partition("/sink_port_")[0]
    return name if name in port.get_names() else str(port.get_any_name())
