"""What runs an artifact. Each backend imports its runtime itself, so a version loads only what it needs."""

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

from models.errors import InvalidVersion
from models.manifest import ArtifactKind, Precision
from models.signature import Signature, Tensors

Provider = Literal["cpu", "cuda", "tensorrt"]
"""What a backend computes on; the CPU takes what it cannot."""

SIGNATURE = "serving_default"
"""The signature of a SavedModel that is served."""

EMBEDDING = "tiltyard_embedding"
"""The output of an ONNX artifact, float16 [rows, dimensions], that `publish` added and no signature lists."""


SERVED_DTYPES = {"float16", "float32", "float64", "bool", "string"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


MOST_PREPARED = 16
"""Larger batches gain little by being prepared for, and cost memory."""


def prepared_sizes(most: int) -> tuple[int, ...]:
    """Rows at once that a replica prepares for where it computes at most so many: one, and the most."""
    return tuple(sorted({1, most if most <= MOST_PREPARED else 1}))


class Backend(Protocol):
    """A loaded artifact."""

    @property
    def signature(self) -> Signature:
        """The inputs and outputs the artifact declares."""

    @property
    def precision(self) -> Precision | None:
        """What it computes in, where that is not what the artifact says."""

    def prepare(self, sizes: Collection[int]) -> Collection[int]:
        """Make batches of these sizes fast, where the runtime can. It may take seconds.

        Returns those that are computed by something else than before. Raises InvalidVersion.
        """

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch: arrays [rows, ...] by input name to arrays [rows, ...] by output name.

        Raises ModelFailed.
        """

    def run_with_embedding(self, inputs: Tensors) -> Tensors:
        """The same, with the embedding under `EMBEDDING` where the artifact has one."""


def load_backend(
    kind: ArtifactKind, path: Path, threads: int = 1, provider: Provider = "cpu", precision: Precision | None = None
) -> Backend:
    """Load an artifact to run on `threads` CPU threads, or on what `provider` names.

    `precision` is what OpenVINO may compute in, where the CPU can; by default the fastest one.

    Raises InvalidVersion where it cannot be loaded or served, or where the provider is not there.
    """
    backend = _load(kind, path, threads, provider, precision)
    for spec in (*backend.signature.inputs, *backend.signature.outputs):
        if spec.dtype not in SERVED_DTYPES:
            raise InvalidVersion(f"tensor {spec.name!r} is {spec.dtype}, which is not served")
    for spec in backend.signature.inputs:
        if not spec.shape:
            raise InvalidVersion(f"input {spec.name!r} is a scalar: its first dimension should be the batch")
    return backend


def _load(kind: ArtifactKind, path: Path, threads: int, provider: Provider, precision: Precision | None) -> Backend:
    match kind:
        case "savedmodel":
            from models.backends.savedmodel import SavedModelBackend

            return SavedModelBackend(path, threads, provider)
        case "onnx" | "onnx-int8":
            from models.backends.onnx import OnnxBackend

            return OnnxBackend(path, threads, provider)
        case "openvino" | "openvino-int8":
            from models.backends.openvino import OpenVinoBackend

            return OpenVinoBackend(path, threads, provider, precision)
