"""Sample photographs, for image models that come without pictures of their own."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.preprocessing import Preprocessing

LARGEST = 4.0
"""The largest picture, as a multiple of what the model takes."""

SMALLEST = 2.0

MOST_PIXELS = 640 * 640
"""Of a model's input: there is too little in two photographs for larger ones."""


def photographs(preprocessing: Preprocessing, count: int) -> list[bytes]:
    """JPEG files, always the same ones, two to four times as large as the model's input.

    They are windows of scikit-learn's two photographs, laid out in mirrored copies so that a window of any size has
    the detail of a real photograph.
    """
    generator = np.random.default_rng(0)
    surfaces = _surfaces(round(LARGEST * preprocessing.height), round(LARGEST * preprocessing.width))
    return [_jpeg(_window(surfaces[index % 2], preprocessing, generator)) for index in range(count)]


def are_for(preprocessing: Preprocessing) -> bool:
    """Whether photographs of two times that size exist."""
    return preprocessing.height * preprocessing.width <= MOST_PIXELS


def _surfaces(height: int, width: int) -> list[npt.NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    return [
        np.pad(image, ((0, max(0, height - len(image))), (0, max(0, width - image.shape[1])), (0, 0)), "symmetric")
        for image in load_sample_images().images
    ]


def _window(
    surface: npt.NDArray[np.uint8], preprocessing: Preprocessing, generator: np.random.Generator
) -> npt.NDArray[np.uint8]:
    times = generator.uniform(SMALLEST, LARGEST)
    height, width = round(times * preprocessing.height), round(times * preprocessing.width)
    top = int(generator.integers(0, surface.shape[0] - height + 1))
    left = int(generator.integers(0, surface.shape[1] - width + 1))
    window = surface[top : top + height, left : left + width]
    return window[:, ::-1] if generator.random() < 0.5 else window


def _jpeg(window: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(window)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
