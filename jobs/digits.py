"""Scikit-learn's handwritten digits as pictures: real data that ships with a library."""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from models.preprocessing import Preprocessing, preprocess_all

SIDE = 64
"""Pixels of a rendered picture."""

HELD_OUT = 0.2
LABELS = tuple("0123456789")
PREPROCESSING = Preprocessing(height=32, width=32, channels="gray")


@dataclass(frozen=True, slots=True)
class Split:
    """PNG files with the uint8 pixels [n, 32, 32, 1] that serving would make of them, and their classes [n]."""

    files: list[bytes]
    pixels: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """Training and held-out digits, always split the same way."""

    training: Split
    held_out: Split
    sha256: str


def load() -> Digits:
    """Render, split and preprocess the 1797 digits."""
    digits = load_digits()
    files = [render(image) for image in digits.images]
    training, held_out = train_test_split(
        np.arange(len(files)), test_size=HELD_OUT, random_state=0, stratify=digits.target
    )
    return Digits(
        _split(files, digits.target, training),
        _split(files, digits.target, held_out),
        hashlib.sha256(digits.data.tobytes() + digits.target.tobytes()).hexdigest(),
    )


def render(image: npt.NDArray[np.float64]) -> bytes:
    """Turn one digit [8, 8] with ink from 0 to 16 into a grey 64 x 64 PNG, white on black."""
    ink = np.asarray(np.round(image * 255 / 16), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def _split(files: list[bytes], classes: npt.NDArray[np.int64], indices: npt.NDArray[np.int64]) -> Split:
    chosen = [files[index] for index in indices]
    return Split(chosen, preprocess_all(chosen, PREPROCESSING), classes[indices])
