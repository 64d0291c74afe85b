"""Kinds of digit traffic, whole and spoilt in known ways; what drift windows are drawn from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

SIDE = 64
"""Of the pictures (jobs/digits.py)."""

CLEAN = "clean"
BASE = "base"
"""Column of a pool: which digit a row was made from."""

Pixels = npt.NDArray[np.uint8]
Dice = np.random.Generator


@dataclass(frozen=True, slots=True)
class Shift:
    """How a picture [64, 64] is spoilt, and which classes come more often (times so much)."""

    picture: Callable[[Pixels, Dice], Pixels] = lambda pixels, _: pixels
    more_of: Mapping[int, float] | None = None


def noise(sigma: float) -> Shift:
    """Gaussian, in shares of white."""
    return Shift(
        lambda pixels, dice: np.clip(pixels + dice.normal(0, 255 * sigma, pixels.shape), 0, 255).astype(np.uint8)
    )


def blur(radius: float) -> Shift:
    """Gaussian, in pixels of 64."""
    return Shift(lambda pixels, _: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))))


def moved(pixels: Pixels, _: Dice) -> Pixels:
    """By one pixel of the 8 x 8 original, to the right; what leaves the picture is lost."""
    step = SIDE // 8
    return np.pad(pixels, ((0, 0), (step, 0)))[:, :SIDE]


def darkened(share: float) -> Shift:
    """Times so much."""
    return Shift(lambda pixels, _: (pixels * share).astype(np.uint8))


def camera(side: int) -> Shift:
    """Pictures of another size."""
    return Shift(lambda pixels, _: np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)))


SHIFTS: Mapping[str, Shift] = {
    "noise 0.03": noise(0.03),
    "noise 0.1": noise(0.1),
    "blur 1 px": blur(1),
    "blur 3 px": blur(3),
    "inversion": Shift(lambda pixels, _: 255 - pixels),
    "one-pixel shift": Shift(moved),
    "darkening x 0.8": darkened(0.8),
    "darkening x 0.5": darkened(0.5),
    "class mix, 3 twice as often": Shift(more_of={3: 2.0}),
    "class mix, 3 five times": Shift(more_of={3: 5.0}),
    "new camera, 96 x 96": camera(96),
}


def read_pool(cache: Path, name: str) -> pa.Table:
    """One kind of traffic."""
    return pq.read_table(pool_path(cache, name))


def pool_path(cache: Path, name: str) -> Path:
    return cache / f"{''.join(each if each.isalnum() else '_' for each in name)}.parquet"
