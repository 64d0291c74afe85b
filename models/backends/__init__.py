"""What runs an artifact. Each backend imports its runtime itself, so a version loads only what it needs."""

from pathlib import Path
from typing import Protocol

from models.manifest import ArtifactKind
from models.signature import Signature, Tensors

SIGNATURE = "serving_default"
"""The signature of a SavedModel that is served."""


class Backend(Protocol):
    """A loaded artifact."""

    @property
    def signature(self) -> Signature:
        """The inputs and outputs the artifact declares."""

    def run(self, inputs: Tensors) -> Tensors:
        """Run one batch: arrays [rows, ...] by input name to arrays [rows, ...] by output name."""


def load_backend(kind: ArtifactKind, path: Path, threads: int = 1) -> Backend:
    """Load an artifact to run on `threads` CPU threads. Raises InvalidVersion where it cannot be loaded."""
    match kind:
        case "savedmodel":
            from models.backends.savedmodel import SavedModelBackend

            return SavedModelBackend(path, threads)
        case "onnx":
            from models.backends.onnx import OnnxBackend

            return OnnxBackend(path, threads)
