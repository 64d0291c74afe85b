"""What the comparison asks of every server: four models, and one request for each, the same bytes for all.

Made once, under `loadtests/.bench/` (not in git): `store/` as `tiltyard publish` writes it, so that every peer serves
the very `model.onnx` that Tiltyard serves, and `payloads/`.
"""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "loadtests" / ".bench"
STORE = BENCH / "store"
PAYLOADS = BENCH / "payloads"

JPEG_SIZE = (640, 480)
JPEG_BYTES = 45_000
MLP_FEATURES = 16

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """A model and the request that is sent over and over.

    `version` has the fp32 artifact that everyone serves, `chosen_version` what publish chose by itself. `pixels` is
    (height, width, channels) of what the model takes, or None where the request is JSON tensors. `max_batch_size` is
    the largest batch that still pays on a CPU; peers that batch are told so.
    """

    name: str
    title: str
    version: int
    chosen_version: int
    payload: str
    media_type: str
    pixels: tuple[int, int, int] | None
    max_batch_size: int

    @property
    def onnx(self) -> Path:
        """The fp32 artifact that everyone serves."""
        return STORE / self.name / str(self.version) / "model.onnx"

    @property
    def body_path(self) -> Path:
        """The request's body as a file."""
        return PAYLOADS / self.payload

    @property
    def body(self) -> bytes:
        """The request's body."""
        return self.body_path.read_bytes()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("mobilenetv2", "MobileNetV2, JPEG", 1, 2, "photograph.jpg", "image/jpeg", (224, 224, 3), 4),
        Workload("resnet50", "ResNet50, JPEG", 1, 2, "photograph.jpg", "image/jpeg", (224, 224, 3), 4),
        Workload("digits", "digits CNN, PNG", 2, 2, "digit.png", "image/png", (32, 32, 1), 16),
        Workload("mlp", "MLP, JSON", 1, 1, "features.json", "application/json", None, 32),
    )
}


def prepare(workloads: Iterable[Workload], report: Report) -> None:
    """Make what is not there yet, one model at a time: converting ResNet50 takes 8 GB of memory for a while."""
    PAYLOADS.mkdir(parents=True, exist_ok=True)
    for workload in workloads:
        if not workload.body_path.exists():
            report(f"making {workload.body_path.relative_to(ROOT)}")
            write_payload(workload.body_path)
        if not workload.onnx.exists():
            report(f"publishing {workload.name} to {STORE.relative_to(ROOT)} (once)")
            # In a process of its own: TensorFlow keeps its memory and its threads for as long as a process lives.
            subprocess.run([sys.executable, "-m", "loadtests.recipes", workload.name], cwd=ROOT, check=True)


def write_payload(path: Path) -> None:
    """Write one of the request bodies."""
    match path.name:
        case "photograph.jpg":
            path.write_bytes(photograph())
        case "digit.png":
            path.write_bytes((ROOT / "docs" / "seven.png").read_bytes())
        case "features.json":
            path.write_text(features())


def photograph(size: tuple[int, int] = JPEG_SIZE, at_most: int = JPEG_BYTES) -> bytes:
    """A sample photograph as a JPEG of about `at_most` bytes."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image("flower.jpg")).resize(size, Image.Resampling.LANCZOS)
    for quality in range(95, 10, -1):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= at_most:
            return buffer.getvalue()
    raise ValueError(f"no quality makes the photograph {at_most} bytes or less")


def features(count: int = MLP_FEATURES) -> str:
    """One row of numbers in TensorFlow Serving's row format."""
    import numpy as np

    row = np.random.default_rng(0).standard_normal(count)
    return json.dumps({"instances": [[round(float(value), 4) for value in row]]})
