"""What is remembered of an input: numbers that tell when the inputs change, cheap enough for every request.

Of an image, as it was sent: `models.traffic.IMAGE_FEATURES`. Of tensors, by their signature: each value of a narrow
input, a summary of a wide one. The traffic log and `publish` (for reference.parquet) both take them from here.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.preprocessing import Picture, to_mode
from models.signature import Signature, Tensors, TensorSpec
from models.traffic import IMAGE, INPUT

Array = npt.NDArray[Any]
Columns = dict[str, Array]
"""Values by column, a row each: float32, or text as objects. pa.array takes them as they are."""

SIDE = 64
"""Of an image no more than SIDE x SIDE pixels are looked at."""

MAX_COLUMNS = 32
"""Inputs [rows, k] with so many values or fewer are remembered value by value."""

MAX_VALUES = 4096
"""A summary looks at no more values of a row than these, evenly spaced."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
_DARK = np.float32(0.1)

SUMMARY = ("mean", "sd", "q05", "q50", "q95", "zero_share", "nan_share")


class ImageFeatures(NamedTuple):
    """`models.traffic.IMAGE_FEATURES` of one image, in their order."""

    width: float
    height: float
    aspect: float
    bytes: float
    format: str
    brightness: float
    contrast: float
    sharpness: float
    saturation: float
    dark_share: float
    clipped_share: float
    red: float
    green: float
    blue: float


class Sample(NamedTuple):
    """What the features of an image are computed from; `pixels` is uint8 [<= SIDE, <= SIDE, 3]."""

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    bytes: int
    format: str


def sample(picture: Picture) -> Sample:
    """A few pixels of a decoded image, evenly spaced, and all else that its features need. Holds no reference to it."""
    image = picture.image
    size = min(SIDE, image.width), min(SIDE, image.height)
    few = to_mode(image if image.size == size else image.resize(size, Image.Resampling.NEAREST), "RGB")
    return Sample(np.asarray(few), picture.width, picture.height, picture.bytes, picture.format)


def sample_array(pixels: npt.NDArray[np.uint8], size_bytes: int = 0, format: str = "") -> Sample:
    """The same of an array [height, width] or [height, width, 1 or 3], RGB."""
    height, width = pixels.shape[:2]
    few = pixels[_spread(height, SIDE)[:, None], _spread(width, SIDE)[None, :]]
    few = few.reshape(*few.shape[:2], -1)
    return Sample(few if few.shape[2] == 3 else few.repeat(3, axis=2), width, height, size_bytes, format)


def image_features(of: Sample) -> ImageFeatures:
    """Compute them: about 0.1 ms."""
    planes = np.ascontiguousarray(of.pixels.transpose(2, 0, 1)).reshape(3, -1)
    count = planes.shape[1]
    means = np.add.reduce(planes, axis=1, dtype=np.float32) / (255 * count)
    red, green, blue = planes
    luma = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]  # a matrix product would wake BLAS's threads
    mean = float(np.add.reduce(luma)) / count
    brightest = np.maximum.reduce(planes)
    darkest = np.minimum.reduce(planes)
    saturation = (brightest - darkest) / np.maximum(brightest, np.float32(1))
    return ImageFeatures(
        width=float(of.width),
        height=float(of.height),
        aspect=of.width / of.height,
        bytes=float(of.bytes),
        format=of.format,
        brightness=mean,
        contrast=_variance(luma, mean) ** 0.5,
        sharpness=_laplacian_variance(luma.reshape(of.pixels.shape[:2])),
        saturation=float(np.add.reduce(saturation)) / count,
        dark_share=int(np.count_nonzero(luma < _DARK)) / count,
        clipped_share=int(np.count_nonzero((darkest == 0) | (brightest == 255))) / count,
        red=float(means[0]),
        green=float(means[1]),
        blue=float(means[2]),
    )


def image_columns(features: Sequence[ImageFeatures | None]) -> Columns:
    """Columns of many images; where an image could not be decoded NaN, and None as its format."""
    nothing = (np.nan,) * len(ImageFeatures._fields)
    rows = list(zip(*(each or nothing for each in features), strict=True)) or [()] * len(nothing)
    columns: Columns = {}
    for name, values in zip(ImageFeatures._fields, rows, strict=True):
        is_text = name == "format"
        columns[IMAGE + name] = (
            np.array([value if isinstance(value, str) else None for value in values], object)
            if is_text
            else np.array(values, np.float32)
        )
    return columns


def tensor_features(inputs: Tensors, signature: Signature) -> Columns:
    """Columns of rows [rows, ...]. Text is told as a hash of 32 bits without a key: who can guess it can test that.

    Inputs [rows], [rows, 1] -> `input_<name>`; [rows, k] with k <= MAX_COLUMNS -> `input_<name>_<index>`; anything else
    -> `input_<name>_<summary>`, of texts of their lengths. NaN and infinity stay as they are in the first two; a
    summary leaves them out and counts them as `nan_share`. Of inputs whose columns would have the same names (`a b` and
    `a_b`) the later ones have a hash of theirs behind it.
    """
    columns: Columns = {}
    for spec in signature.inputs:
        if spec.name in inputs:
            array, name = np.asarray(inputs[spec.name]), column_name(spec.name)
            made = _columns(spec, array, name)
            if made.keys() & columns.keys():
                made = _columns(spec, array, f"{name}_{hashed(spec.name)}")
            columns.update(made)
    return columns


def _columns(spec: TensorSpec, array: Array, name: str) -> Columns:
    name = INPUT + name
    width = columns_of(spec)
    values = array.reshape(len(array), -1)
    if width not in (None, values.shape[1]):
        raise ValueError(f"input {spec.name!r} has {values.shape[1]} values a row, not {width}")
    if width is None:
        return {f"{name}_{what}": column for what, column in zip(SUMMARY, _summary(values), strict=True)}
    each = (_hashed(column) if values.dtype.kind in "OSU" else _floats(column) for column in values.T)
    return {name if width == 1 and index == 0 else f"{name}_{index}": column for index, column in enumerate(each)}


def columns_of(spec: TensorSpec) -> int | None:
    """How many values a row of an input has, where they are remembered one by one; else None."""
    sizes = spec.shape[1:]
    if not sizes:
        return 1
    return sizes[0] if len(sizes) == 1 and sizes[0] is not None and sizes[0] <= MAX_COLUMNS else None


@lru_cache(maxsize=1024)
def column_name(name: str) -> str:
    """An input's name as a part of a column's."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _summary(values: Array) -> list[Array]:
    """`SUMMARY` of each row [rows, values]."""
    few = values[:, _spread(values.shape[1], MAX_VALUES)]
    numbers = _lengths(few) if few.dtype.kind in "OSU" else _floats(few)
    count = max(1, numbers.shape[1])
    is_finite = np.isfinite(numbers)
    finite = is_finite.sum(axis=1)
    known = np.maximum(1, finite)
    zeroed = np.where(is_finite, numbers, np.float32(0))
    mean = zeroed.sum(axis=1, dtype=np.float64) / known
    deviations = np.where(is_finite, numbers - mean[:, None].astype(np.float32), np.float32(0))
    sd = np.sqrt(np.square(deviations, dtype=np.float64).sum(axis=1) / known)
    ordered = np.sort(np.where(is_finite, numbers, np.float32(np.inf)), axis=1)
    quantiles = [_quantile(ordered, finite, share) for share in (0.05, 0.5, 0.95)]
    zero_share = (is_finite & (numbers == 0)).sum(axis=1) / count
    told = [np.where(finite > 0, each, np.nan) for each in (mean, sd, *quantiles)]
    return [each.astype(np.float32) for each in (*told, zero_share, 1 - finite / count)]


def _quantile(ordered: Array, count: Array, share: float) -> Array:
    """Of the first `count` values of each row, interpolated between two of them as numpy does."""
    if not ordered.shape[1]:
        return np.full(len(ordered), np.nan)
    place = np.maximum(0, count - 1) * share
    below = place.astype(np.intp)
    rows = np.arange(len(ordered))
    low, high = ordered[rows, below], ordered[rows, np.minimum(below + 1, np.maximum(0, count - 1))]
    with np.errstate(invalid="ignore"):  # rows without a finite value, which are told as NaN
        return np.asarray(low + (high - low) * (place - below))


def _laplacian_variance(luma: npt.NDArray[np.float32]) -> float:
    """Of the four neighbours less four times the middle, of values from 0 to 1; 0 of images under 3 x 3."""
    if min(luma.shape) < 3:
        return 0.0
    inner = luma[1:-1, 1:-1]
    edges = (luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner).ravel()
    return _variance(edges, float(np.add.reduce(edges)) / edges.size)


def _variance(values: npt.NDArray[np.float32], mean: float) -> float:
    """Of a vector whose mean is known: numpy's own takes five times as long for so few."""
    around = values - np.float32(mean)
    return float(np.dot(around, around)) / around.size


@lru_cache(maxsize=256)
def _spread(length: int, most: int) -> npt.NDArray[np.intp]:
    """Indices of at most so many of a number of values, evenly spaced, as Pillow's nearest resizing takes them."""
    count = min(length, most)
    return np.asarray((np.arange(count) + 0.5) * (length / count) if count else np.arange(0)).astype(np.intp)


def _floats(values: Array) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what float32 cannot tell is infinite
        return values.astype(np.float32)


def _hashed(values: Iterable[Any]) -> Array:
    return np.array([hashed(value) for value in values], object)


@lru_cache(maxsize=4096)
def hashed(text: str | bytes) -> str:
    """Eight hexadecimal digits that stand for a text."""
    return hashlib.blake2b(text if isinstance(text, bytes) else str(text).encode(), digest_size=4).hexdigest()


def _lengths(values: Array) -> npt.NDArray[np.float32]:
    return np.array([len(value) for value in values.flat], np.float32).reshape(values.shape)
