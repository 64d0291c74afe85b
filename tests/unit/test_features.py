import io

import numpy as np
import pytest
from PIL import Image

from models.features import (
    ImageFeatures,
    Sample,
    hashed,
    image_columns,
    image_features,
    sample,
    sample_array,
    tensor_features,
)
from models.preprocessing import Preprocessing, picture
from models.signature import Signature, TensorSpec
from models.traffic import IMAGE_FEATURES
from tests.tiny import floats, gradient, image_bytes

TAKES = Preprocessing(height=8, width=8)


def features_of(image: Image.Image, format: str = "PNG", takes: Preprocessing = TAKES) -> ImageFeatures:
    return image_features(sample(picture(image_bytes(image, format), takes)))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def signature(*specs: TensorSpec) -> Signature:
    return Signature(inputs=specs, outputs=())


def test_the_features_of_an_image_are_those_of_the_schema() -> None:
    columns = image_columns([features_of(gradient()), None])
    assert list(columns) == IMAGE_FEATURES.names
    assert columns["image_format"].tolist() == ["PNG", None]
    assert columns["image_width"][0] == 16
    assert all(np.isnan(values[1]) for name, values in columns.items() if name != "image_format")
    assert image_columns([])["image_width"].shape == (0,)


@pytest.mark.parametrize(("width", "height"), [(16, 8), (64, 64), (200, 97), (1, 1), (2, 300)])
def test_features_are_what_numpy_computes_of_the_sampled_pixels(width: int, height: int) -> None:
    of = sample_array(np.asarray(noise(width, height)), 10, "PNG")
    assert of.pixels.shape == (min(64, height), min(64, width), 3)
    pixels = of.pixels.astype(np.float64) / 255
    luma = pixels @ [0.299, 0.587, 0.114]
    found = image_features(of)
    assert found.brightness == pytest.approx(luma.mean(), rel=1e-5)
    assert found.contrast == pytest.approx(luma.std(), abs=1e-5)
    assert (found.red, found.green, found.blue) == pytest.approx(pixels.mean(axis=(0, 1)), rel=1e-5)
    brightest = pixels.max(axis=2)
    saturation = (brightest - pixels.min(axis=2)) / np.where(brightest > 0, brightest, 1)
    assert found.saturation == pytest.approx(saturation.mean(), rel=1e-5)
    assert found.dark_share == pytest.approx((luma < 0.1).mean(), abs=1e-3)
    assert found.clipped_share == ((of.pixels == 0) | (of.pixels == 255)).any(axis=2).mean()
    if min(luma.shape) > 2:
        laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
        assert found.sharpness == pytest.approx(laplacian.var(), rel=1e-4)
    else:
        assert found.sharpness == 0


@pytest.mark.parametrize(("width", "height"), [(16, 8), (64, 64), (65, 300), (1000, 333)])
def test_an_array_and_a_file_of_the_same_pixels_have_the_same_sample(width: int, height: int) -> None:
    image = noise(width, height)
    of_file = sample(picture(image_bytes(image), TAKES))
    of_array = sample_array(np.asarray(image))
    assert np.array_equal(of_file.pixels, of_array.pixels)
    assert (of_file.width, of_file.height) == (of_array.width, of_array.height) == (width, height)


def test_grey_arrays_are_images_too() -> None:
    grey = np.full((4, 6), 128, np.uint8)
    assert image_features(sample_array(grey)) == image_features(sample_array(grey[:, :, None]))
    assert image_features(sample_array(grey)).brightness == pytest.approx(128 / 255, abs=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "I;16", "CMYK"])
def test_every_colour_model_has_features(mode: str) -> None:
    image = gradient(100, 80).convert("L") if mode == "I;16" else gradient(100, 80)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    found = features_of(image, "JPEG" if mode == "CMYK" else "PNG")
    assert (found.width, found.height) == (100, 80)
    assert 0 <= found.brightness <= 1


def test_a_turned_photograph_is_told_upright_and_one_that_was_decoded_small_as_it_was_sent() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    noise(640, 480).save(buffer, "JPEG", exif=exif)
    for takes in (TAKES, Preprocessing(height=8, width=8, scaled_decode=True)):
        decoded = picture(buffer.getvalue(), takes)
        found = image_features(sample(decoded))
        assert (found.width, found.height, found.format) == (480, 640, "JPEG")
        assert found.bytes == len(buffer.getvalue())
    assert decoded.image.width < 480


def test_a_sample_keeps_nothing_of_a_large_image() -> None:
    of = sample(picture(image_bytes(noise(500, 500)), TAKES))
    assert isinstance(of, Sample)
    assert isinstance(of.pixels.base, bytes)  # of the small image
    assert len(of.pixels.base) == 64 * 64 * 3


def test_narrow_inputs_are_told_value_by_value() -> None:
    spec = [
        TensorSpec(name="age", dtype="int64", shape=(None,)),
        TensorSpec(name="town", dtype="string", shape=(None, 1)),
        TensorSpec(name="x:0", dtype="float32", shape=(None, 3)),
    ]
    inputs = {
        "age": np.array([1, 2]),
        "town": np.array([["Rome"], ["Oslo"]], object),
        "x:0": floats([[1, np.nan, np.inf], [4, 5, 6]]),
    }
    columns = tensor_features(inputs, signature(*spec))
    assert list(columns) == ["input_age", "input_town", "input_x_0_0", "input_x_0_1", "input_x_0_2"]
    assert columns["input_age"].dtype == np.float32
    assert columns["input_town"].tolist() == [hashed("Rome"), hashed("Oslo")]
    assert len(hashed("Rome")) == 8
    np.testing.assert_array_equal(columns["input_x_0_1"], floats([np.nan, 5]))
    np.testing.assert_array_equal(columns["input_x_0_2"], floats([np.inf, 6]))


@pytest.mark.parametrize("shape", [(5, 33), (5, 3, 4), (5, 100, 100)])
def test_wide_inputs_are_summarised(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values.reshape(5, -1)[:, :8] = 0
    spec = TensorSpec(name="x", dtype="float32", shape=(None, *shape[1:]))
    columns = tensor_features({"x": values}, signature(spec))
    flat = values.reshape(5, -1)
    if flat.shape[1] > 4096:
        flat = flat[:, ((np.arange(4096) + 0.5) * flat.shape[1] / 4096).astype(int)]
    np.testing.assert_allclose(columns["input_x_mean"], flat.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(columns["input_x_sd"], flat.std(axis=1), rtol=1e-4, atol=1e-6)
    for name, share in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        np.testing.assert_allclose(columns[f"input_x_{name}"], np.quantile(flat, share, axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(columns["input_x_zero_share"], (flat == 0).mean(axis=1))
    assert columns["input_x_nan_share"].tolist() == [0] * 5


def test_a_summary_leaves_out_what_is_no_number_and_counts_it() -> None:
    values = np.tile(np.arange(40, dtype=np.float32), (3, 1))
    values[0, :10] = np.nan
    values[0, 10:20] = np.inf
    values[1] = np.nan
    columns = tensor_features({"x": values}, signature(TensorSpec(name="x", dtype="float32", shape=(None, 40))))
    np.testing.assert_array_equal(columns["input_x_nan_share"], floats([0.5, 1, 0]))
    np.testing.assert_allclose(columns["input_x_mean"], [29.5, np.nan, 19.5])
    np.testing.assert_allclose(columns["input_x_q50"], [29.5, np.nan, 19.5])


def test_wide_texts_are_told_by_their_lengths() -> None:
    values = np.array([["a" * (index % 4) for index in range(40)]], object)
    columns = tensor_features({"t": values}, signature(TensorSpec(name="t", dtype="string", shape=(None, 40))))
    assert columns["input_t_mean"][0] == 1.5
    assert columns["input_t_zero_share"][0] == 0.25


def test_inputs_that_did_not_come_have_no_columns() -> None:
    assert tensor_features({}, signature(TensorSpec(name="x", dtype="float32", shape=(None, 1)))) == {}


def test_inputs_of_like_names_are_told_apart() -> None:
    names = ("a b", "a_b", "a_0", "a")
    shapes: list[tuple[int | None, ...]] = [(None,), (None,), (None,), (None, 2)]
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in zip(names, shapes, strict=True)]
    values = {"a b": floats([1]), "a_b": floats([2]), "a_0": floats([3]), "a": floats([[4, 5]])}
    columns = tensor_features(values, signature(*specs))
    assert columns["input_a_b"].tolist() == [1]
    assert columns["input_a_0"].tolist() == [3]
    assert sorted(column.tolist()[0] for column in columns.values()) == [1, 2, 3, 4, 5]
