import contextlib
import random

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageTooLarge, InvalidImage, TiltyardError, UnsupportedMediaType
from models.preprocessing import Preprocessing, decode, needed_size, preprocess
from tests.tiny import gradient, image_bytes, png_of_size

RGB = Preprocessing(height=8, width=16)
SCALED = Preprocessing(height=8, width=16, scaled_decode=True)


def test_pixels_come_through_unchanged() -> None:
    pixels = preprocess(image_bytes(gradient()), RGB)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(gradient()))


def test_bgr_is_rgb_reversed() -> None:
    rgb = preprocess(image_bytes(gradient()), RGB)
    bgr = preprocess(image_bytes(gradient()), Preprocessing(height=8, width=16, channels="bgr"))
    np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = gradient().transpose(undo[orientation]) if orientation in undo else gradient()
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(preprocess(image_bytes(stored, exif=exif), RGB), np.asarray(gradient()))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_broken_exif_stays_as_it_is_stored(format: str) -> None:
    data = image_bytes(gradient(), format, exif=b"Exif\0\0junk", quality=100)
    assert preprocess(data, RGB).shape == RGB.shape


def test_a_photograph_with_a_preview_behind_it_is_taken() -> None:
    """Pillow calls the container of such photographs MPO and counts two frames."""
    photograph = image_bytes(gradient(), "MPO", save_all=True, append_images=[gradient(4, 4)], quality=100)
    plain = image_bytes(gradient(), "JPEG", quality=100)
    np.testing.assert_array_equal(preprocess(photograph, RGB), preprocess(plain, RGB))


def test_pad_keeps_the_whole_image_and_crop_its_centre() -> None:
    white = image_bytes(Image.new("RGB", (20, 10), "white"))
    padded = preprocess(white, Preprocessing(height=20, width=20, fit="pad"))
    cropped = preprocess(white, Preprocessing(height=20, width=20, fit="crop"))
    assert padded[0].max() == 0
    assert padded[10].min() == 255
    assert cropped.min() == 255


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("channels", ["rgb", "gray"])
def test_every_colour_model_is_converted(mode: str, channels: str) -> None:
    image = (
        Image.new("I;16", (16, 8), 0x8000)
        if mode == "I;16"
        else Image.new("RGB", (16, 8), (128, 128, 128)).convert(mode)
    )
    format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    pixels = preprocess(
        image_bytes(image, format), Preprocessing.model_validate({"height": 8, "width": 16, "channels": channels})
    )
    assert pixels.shape == (8, 16, 1 if channels == "gray" else 3)
    expected = {"1": {0, 255}, "P": {102, 153}}.get(mode, {126, 127, 128, 129, 130})
    assert set(np.unique(pixels)) <= expected


def test_decoding_in_full_is_the_default() -> None:
    assert not Preprocessing.model_validate({"height": 8, "width": 16}).scaled_decode


@pytest.mark.parametrize(
    ("width", "height", "decoded"),
    [
        pytest.param(160, 80, (20, 10), id="an eighth"),
        pytest.param(64, 32, (16, 8), id="a quarter"),
        pytest.param(63, 32, (32, 16), id="a half, because a quarter were too narrow"),
        pytest.param(31, 500, (31, 500), id="as it is, because half were too narrow"),
        pytest.param(8, 4, (8, 4), id="as it is, because it is too small"),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_needed(width: int, height: int, decoded: tuple[int, int]) -> None:
    data = image_bytes(gradient(width, height), "JPEG", quality=95)
    assert decode(data, scaled_for=SCALED).size == decoded
    assert decode(data).size == (width, height)
    full, scaled = preprocess(data, RGB).astype(int), preprocess(data, SCALED).astype(int)
    assert np.abs(full - scaled).mean() < 4


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_only_jpegs_are_scaled_by_their_decoder(format: str) -> None:
    data = image_bytes(gradient(160, 80), format)
    np.testing.assert_array_equal(preprocess(data, SCALED), preprocess(data, RGB))


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(300, 100), (100, 300), (130, 130), (33, 900)])
def test_scaled_decoding_knows_orientation_and_fit(fit: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = image_bytes(gradient(*size), "JPEG", exif=exif, quality=95)
    wanted = Preprocessing.model_validate({"height": 8, "width": 16, "fit": fit, "scaled_decode": True})
    image = decode(data, scaled_for=wanted)
    needed = needed_size(decode(data), wanted)
    assert image.size[0] >= needed[0]
    assert image.size[1] >= needed[1]
    assert min(image.size[0] / needed[0], image.size[1] / needed[1]) < 2 or min(size) / max(image.size) >= 1 / 8
    full = preprocess(data, wanted.model_copy(update={"scaled_decode": False})).astype(int)
    assert np.abs(preprocess(data, wanted).astype(int) - full).mean() < 6


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_scaled_grey_is_the_stored_brightness(mode: str) -> None:
    data = image_bytes(gradient(160, 80).convert(mode), "JPEG", quality=95)
    grey = Preprocessing(height=8, width=16, channels="gray")
    scaled = preprocess(data, grey.model_copy(update={"scaled_decode": True})).astype(int)
    assert np.abs(scaled - preprocess(data, grey).astype(int)).max() <= 8


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_every_format_is_decoded(format: str) -> None:
    pixels = preprocess(image_bytes(gradient(), format, quality=100), RGB)
    assert np.abs(pixels.astype(int) - np.asarray(gradient()).astype(int)).mean() < 12


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", InvalidImage, id="empty"),
        pytest.param(b"<html><body>no</body></html>", InvalidImage, id="html"),
        pytest.param(image_bytes(gradient(64, 64), "JPEG")[:500], InvalidImage, id="truncated jpeg"),
        pytest.param(image_bytes(gradient(64, 64))[:80], InvalidImage, id="truncated png"),
        pytest.param(png_of_size(30_000, 30_000), ImageTooLarge, id="png bomb"),
        pytest.param(png_of_size(8_000, 8_000), ImageTooLarge, id="over our limit"),
        pytest.param(image_bytes(gradient(), "GIF"), UnsupportedMediaType, id="gif"),
        pytest.param(image_bytes(gradient(), "BMP"), InvalidImage, id="bmp"),
        pytest.param(
            image_bytes(gradient(), "PNG", save_all=True, append_images=[gradient().rotate(180)]),
            UnsupportedMediaType,
            id="animated png",
        ),
        pytest.param(
            image_bytes(gradient(), "WEBP", save_all=True, append_images=[gradient().rotate(180)]),
            UnsupportedMediaType,
            id="animated webp",
        ),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, error: type[TiltyardError]) -> None:
    with pytest.raises(error):
        preprocess(data, RGB)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageTooLarge, match="8000 x 8000"):
        preprocess(png_of_size(8_000, 8_000), RGB)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damaged_bytes_never_raise_anything_else(format: str) -> None:
    generator = random.Random(0)
    original = image_bytes(gradient(32, 32), format)
    for _ in range(300):
        damaged = bytearray(original)
        for _ in range(generator.randint(1, 8)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        data = bytes(damaged[: generator.randint(1, len(damaged))])
        for preprocessing in (RGB, SCALED):
            with contextlib.suppress(InvalidImage, ImageTooLarge, UnsupportedMediaType):
                assert preprocess(data, preprocessing).shape == RGB.shape
