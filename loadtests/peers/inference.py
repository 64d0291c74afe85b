"""What every peer does with a request, whatever serves it: decode with Pillow, compute with ONNX Runtime on one thread.

It runs in each peer's own environment, so it needs nothing but numpy, Pillow and ONNX Runtime.
"""

import io
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image


def pixels_from_environment() -> tuple[int, int, int] | None:
    """(height, width, channels) of the model's input, or None where it takes rows of numbers."""
    text = os.environ.get("BENCH_PIXELS", "")
    if not text:
        return None
    height, width, channels = map(int, text.split("x"))
    return height, width, channels


class Model:
    """An ONNX model in a session of one thread, as many processes as there are cores being the other half of it."""

    def __init__(self, path: str | None = None, pixels: tuple[int, int, int] | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            path or os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._pixels = pixels or pixels_from_environment()

    def decode(self, image: bytes) -> npt.NDArray[np.uint8]:
        """Pixels [height, width, channels] of an encoded image."""
        assert self._pixels is not None
        height, width, channels = self._pixels
        decoded = Image.open(io.BytesIO(image)).convert("RGB" if channels == 3 else "L")
        resized = decoded.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized, np.uint8).reshape(self._pixels)

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Class probabilities [n, classes] of a batch of pixels or rows."""
        probabilities: npt.NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        return probabilities

    def classify_images(self, images: list[bytes]) -> npt.NDArray[np.float32]:
        """Class probabilities [n, classes] of encoded images."""
        return self.run(np.stack([self.decode(image) for image in images]))

    def classify_rows(self, rows: list[list[float]]) -> npt.NDArray[np.float32]:
        """Class probabilities [n, classes] of rows of numbers."""
        return self.run(np.asarray(rows, np.float32))
