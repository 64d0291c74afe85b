"""Encoded image in, uint8 tensor out: the one function that training, publishing and serving share.

Casting and scaling are not here: they live inside the exported graph, so what travels is uint8.
"""

import io
import math
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from pydantic import BaseModel, ConfigDict, Field

from models.errors import ImageTooLarge, InvalidImage, UnsupportedMediaType

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_IMAGE_PIXELS = 50_000_000
"""Images with more pixels are refused from their header, before a byte of them is decoded."""

# What Pillow's decoders raise on broken bytes.
BROKEN = (OSError, SyntaxError, ValueError, TypeError, IndexError, OverflowError, EOFError, struct.error, zlib.error)

_MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L"}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")

Channels = Literal["rgb", "bgr", "gray"]
Resize = Literal["bilinear", "bicubic", "nearest", "lanczos"]
Fit = Literal["stretch", "pad", "crop"]
Layout = Literal["nhwc", "nchw"]


class Preprocessing(BaseModel):
    """How an image becomes the model's input; part of the version, so it cannot change under it.

    `fit` says what happens when the aspect ratios differ: `stretch` ignores it, `pad` keeps the whole image on
    black, `crop` keeps the centre. `orient` turns the picture upright as its EXIF orientation asks. `scaled_decode`
    lets the decoder of a JPEG that is too large give half, a quarter or an eighth of its size, never less than what
    is needed, and grey ones their brightness as it is stored: faster, and the pixels differ a little.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: Annotated[int, Field(ge=1, le=8192)]
    width: Annotated[int, Field(ge=1, le=8192)]
    channels: Channels = "rgb"
    resize: Resize = "bilinear"
    fit: Fit = "stretch"
    orient: bool = True
    scaled_decode: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the tensor."""
        return self.height, self.width, 1 if self.channels == "gray" else 3


class Picture(NamedTuple):
    """A decoded image, turned as the version wants it: it was sent with `width` x `height`, so many `bytes`.

    A scaled decoder gives fewer pixels than were sent. `format` is one of FORMATS.
    """

    image: Image.Image
    width: int
    height: int
    bytes: int
    format: str


def preprocess(data: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_IMAGE_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode, orient, convert and resize one PNG, JPEG or WebP image to uint8 [height, width, channels].

    Raises InvalidImage, ImageTooLarge or UnsupportedMediaType.
    """
    return to_tensor(picture(data, preprocessing, max_pixels), preprocessing)


def picture(data: bytes, preprocessing: Preprocessing, max_pixels: int = MAX_IMAGE_PIXELS) -> Picture:
    """Decode and orient. Raises InvalidImage, ImageTooLarge or UnsupportedMediaType."""
    file = _open(data)
    size = file.size
    format = "JPEG" if file.format == "MPO" else file.format or ""
    image = _load(file, max_pixels, preprocessing if preprocessing.scaled_decode else None)
    if preprocessing.orient:
        if _is_turned(image):
            size = size[::-1]
        image = orient(image)
    return Picture(image, *size, len(data), format)


def to_tensor(picture: Picture, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Convert and resize to uint8 [height, width, channels]."""
    image = to_mode(picture.image, _MODES[preprocessing.channels])
    image = fit(image, (preprocessing.width, preprocessing.height), preprocessing)
    pixels = np.asarray(image, dtype=np.uint8).reshape(preprocessing.shape)
    if preprocessing.channels == "bgr":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels)


def preprocess_all(files: Sequence[bytes], preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """What serving makes of image files: uint8 [rows, height, width, channels]. Raises what `preprocess` raises."""
    return np.stack([preprocess(file, preprocessing) for file in files])


def decode(data: bytes, max_pixels: int = MAX_IMAGE_PIXELS, scaled_for: Preprocessing | None = None) -> Image.Image:
    """Decode the pixels of a still image, looking at its size first; no more than `scaled_for` needs of them."""
    return _load(_open(data), max_pixels, scaled_for)


def _load(image: ImageFile, max_pixels: int, scaled_for: Preprocessing | None) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLarge(f"the image has {width} x {height} pixels; at most {max_pixels} are decoded")
    # Some cameras put a preview behind the photograph, in a container that Pillow calls MPO; the first is meant.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UnsupportedMediaType("animated images are not served; send one frame")
    try:
        if scaled_for is not None and isinstance(image, JpegImageFile):
            image.draft(_MODES[scaled_for.channels], needed_size(image, scaled_for))
        image.load()
    except BROKEN:
        raise InvalidImage(f"the {image.format} image is truncated or damaged") from None
    return image


def _open(data: bytes) -> ImageFile:
    if not data:
        raise InvalidImage("the image is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageTooLarge(f"the image has too many pixels; at most {MAX_IMAGE_PIXELS} are decoded") from None
    except BROKEN:
        if data.startswith((b"GIF87a", b"GIF89a")):
            raise UnsupportedMediaType("GIF is not served; send PNG, JPEG or WebP") from None
        raise InvalidImage("the bytes are not a PNG, JPEG or WebP image") from None


def orient(image: Image.Image) -> Image.Image:
    """Turn the picture upright as its EXIF tag asks; one whose tag cannot be read stays as it is stored."""
    with suppress(*BROKEN):
        ImageOps.exif_transpose(image, in_place=True)  # else a picture that is upright would be copied
    return image


def needed_size(image: Image.Image, preprocessing: Preprocessing) -> tuple[int, int]:
    """The least (width, height), as the picture is stored, that need not be enlarged afterwards.

    One times the size that the model takes: with twice of it, 640 x 480 could not be halved for 224 x 224, and
    pixels would differ by 0.3 of 255 in place of 1.1 (four-fold photographs).
    """
    turned = preprocessing.orient and _is_turned(image)
    width, height = image.size[::-1] if turned else image.size
    needed = preprocessing.width, preprocessing.height
    if preprocessing.fit == "pad":
        share = min(needed[0] / width, needed[1] / height)
        needed = max(1, math.ceil(width * share)), max(1, math.ceil(height * share))
    return needed[::-1] if turned else needed


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF orientation swaps width and height."""
    try:
        return image.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
    except BROKEN:
        return False


def to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert any colour model to RGB or L; 16-bit samples keep their upper 8 bits, transparency is dropped."""
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def fit(image: Image.Image, size: tuple[int, int], preprocessing: Preprocessing) -> Image.Image:
    """Resize to (width, height)."""
    if image.size == size:
        return image
    method = _RESAMPLING[preprocessing.resize]
    match preprocessing.fit:
        case "stretch":
            return image.resize(size, method)
        case "pad":
            return ImageOps.pad(image, size, method)
        case "crop":
            return ImageOps.fit(image, size, method)
