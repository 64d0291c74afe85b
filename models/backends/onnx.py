"""ONNX Runtime."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import onnxruntime as ort

from models.backends import EMBEDDING, Provider
from models.errors import InvalidVersion, ModelFailed
from models.manifest import Precision
from models.signature import Signature, Tensors, TensorSpec

# ONNX's names of element types, as ONNX Runtime spells them, to numpy's.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
} | {f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}

# Execution providers in the order in which they are asked to take a node. Each computes in float32, no less (CUDA's
# TensorFloat-32), because a replica must reproduce the golden outputs.
_Providers = list[tuple[str, dict[str, str]]]
_CPU: _Providers = [("CPUExecutionProvider", {})]
_CUDA: _Providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), *_CPU]
_PROVIDERS: dict[Provider, _Providers] = {
    "cpu": _CPU,
    "cuda": _CUDA,
    "tensorrt": [("TensorrtExecutionProvider", {}), *_CUDA],
}
_PACKAGE = "onnxruntime-gpu"


class OnnxBackend:
    """An ONNX model in an ONNX Runtime session.

    `run` takes numpy arrays without copying them: binding inputs and outputs was slower for one row of a small MLP
    (8.8 us against 5.6) and no faster for MobileNetV2. A graph that was optimised when it was published loads 11 ms
    faster (MobileNetV2: 21 ms), which is not worth a file that only suits the publisher's CPU.
    """

    precision: Precision | None = None

    def __init__(self, path: Path, threads: int = 1, provider: Provider = "cpu") -> None:
        _check_installed(provider)
        try:
            self._session = ort.InferenceSession(path, _options(threads), providers=_PROVIDERS[provider])
        except Exception as error:  # ONNX Runtime raises a class of its own per status code
            raise InvalidVersion(f"ONNX Runtime cannot load the artifact: {_first_line(error)}") from error
        _check_used(provider, self._session.get_providers())
        self.signature = Signature(
            inputs=tuple(map(_spec, self._session.get_inputs())),
            outputs=tuple(_spec(node) for node in self._session.get_outputs() if not _is_embedding(node)),
        )
        self._output_names = [spec.name for spec in self.signature.outputs]
        self._all_names = self._output_names + [n.name for n in self._session.get_outputs() if _is_embedding(n)]

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        """It takes every size alike."""
        return ()

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch. Raises ModelFailed."""
        return self._run(inputs, self._output_names)

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        """Run one batch; what the embedding costs, it costs `run` too. Raises ModelFailed."""
        return self._run(inputs, self._all_names)

    def _run(self, inputs: Tensors, names: list[str]) -> Tensors:
        try:
            outputs = self._session.run(names, dict(inputs))
        except Exception as error:  # see above
            raise ModelFailed(f"ONNX Runtime: {_first_line(error)}") from error
        return dict(zip(names, outputs, strict=True))


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work spin by default, on cores that other replicas need: two threads took two cores even
    # for an MLP that one computes. On a machine of its own, spinning is faster (MobileNetV2: 4.2 ms against 5.2).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _check_installed(provider: Provider) -> None:
    name, _ = _PROVIDERS[provider][0]
    if name not in ort.get_available_providers():
        raise InvalidVersion(f"provider {provider!r}: this onnxruntime has no {name}; install {_PACKAGE} in its place")


def _check_used(provider: Provider, used: list[str]) -> None:
    """ONNX Runtime goes on with the CPU alone where a provider's own libraries or its device are missing."""
    name, _ = _PROVIDERS[provider][0]
    if name not in used:
        raise InvalidVersion(
            f"provider {provider!r}: {name} did not start; its libraries or its device are missing (`num_gpus`?)"
        )


def _spec(node: Any) -> TensorSpec:
    if node.type not in DTYPES:
        raise InvalidVersion(f"{node.name!r} is a {node.type}, which is not served")
    return TensorSpec(
        name=node.name,
        dtype=DTYPES[node.type],
        shape=tuple(d if isinstance(d, int) and d > 0 else None for d in node.shape),
    )


def _is_embedding(node: Any) -> bool:
    """Whether an output is the one that `publish` added: float16 [rows, dimensions]."""
    return bool(node.name == EMBEDDING and node.type == "tensor(float16)" and len(node.shape) == 2)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
