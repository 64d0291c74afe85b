"""ONNX Runtime."""

from pathlib import Path
from typing import Any

import onnxruntime as ort

from models.errors import InvalidVersion, ModelFailed
from models.signature import Signature, Tensors, TensorSpec

# ONNX's names of element types, as ONNX Runtime spells them, to numpy's.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class OnnxBackend:
    """An ONNX model in an ONNX Runtime session on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own per status code
            raise InvalidVersion(f"ONNX Runtime cannot load the artifact: {_first_line(error)}") from error
        self.signature = Signature(
            inputs=tuple(map(_spec, self._session.get_inputs())),
            outputs=tuple(map(_spec, self._session.get_outputs())),
        )
        self._output_names = [spec.name for spec in self.signature.outputs]

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch. Raises ModelFailed."""
        try:
            outputs = self._session.run(self._output_names, dict(inputs))
        except Exception as error:  # see above
            raise ModelFailed(f"ONNX Runtime: {_first_line(error)}") from error
        return dict(zip(self._output_names, outputs, strict=True))


def _spec(node: Any) -> TensorSpec:
    if node.type not in DTYPES:
        raise InvalidVersion(f"{node.name!r} is a {node.type}, which is not served")
    return TensorSpec(
        name=node.name,
        dtype=DTYPES[node.type],
        shape=tuple(d if isinstance(d, int) and d > 0 else None for d in node.shape),
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
