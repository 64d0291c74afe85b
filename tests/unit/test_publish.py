"""Publishing models that other people made, with the real TensorFlow, tf2onnx and ONNX Runtime."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from keras import layers
from PIL import Image

from jobs import digits
from jobs.conversion import ImageInput, Scaling, open_source
from jobs.measurement import Validation
from jobs.publish import Publication, Published, publish
from models.errors import ConversionFailed, InvalidVersion, VersionExists
from models.preprocessing import Preprocessing, preprocess
from models.store import Store
from models.version import load_version
from tests.tiny import affine, brightness, floats, identity, image_bytes, lookup, save_onnx

SCALING = Scaling(scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def classifier() -> Any:
    """A small convolutional classifier of 8 x 8 colour pictures."""
    keras.utils.set_random_seed(0)
    stack = [keras.Input((8, 8, 3), name="x"), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3, "softmax")]
    return keras.Sequential(stack)


@pytest.fixture(scope="module")
def saved_model(classifier: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved_model") / "classifier"
    classifier.export(path, verbose=False)
    return path


def published(store: Store, path: Path, **options: Any) -> Published:
    return publish(store, Publication(model="m", source=open_source(path), **options), lambda _: None)


def image(scaling: Scaling = SCALING, channels: str = "rgb") -> ImageInput:
    return ImageInput(Preprocessing.model_validate({"height": 8, "width": 8, "channels": channels}), scaling)


def pixels(rows: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (rows, 8, 8, 3)).astype(np.uint8)


def expected(classifier: Any, scaling: Scaling = SCALING) -> npt.NDArray[Any]:
    scaled = (pixels() * np.float32(scaling.scale) - np.array(scaling.mean, np.float32)) / np.array(
        scaling.std, np.float32
    )
    return np.asarray(classifier(scaled.astype(np.float32)))


@pytest.mark.parametrize("kind", ["savedmodel", "keras"])
def test_a_tensorflow_model_takes_pixels_from_both_artifacts(
    store: Store, classifier: Any, saved_model: Path, tmp_path: Path, kind: str
) -> None:
    path = saved_model
    if kind == "keras":
        path = tmp_path / "classifier.keras"
        classifier.save(path)
    result = published(store, path, image=image(), labels=("a", "b", "c"))
    manifest = result.manifest
    assert [artifact.kind for artifact in manifest.artifacts] == [
        "savedmodel",
        "onnx",
        "onnx-int8",
        "openvino-int8",
        "openvino",
    ]
    assert not result.left_out
    assert (manifest.output, manifest.labels) == ("probabilities", ("a", "b", "c"))
    assert str(manifest.signature.inputs[0]) == "image: uint8 [?, 8, 8, 3]"
    assert all((manifest.find(kind).max_abs_diff or 0) < 1e-4 for kind in ("savedmodel", "onnx"))
    for artifact in ("savedmodel", "onnx"):
        outputs = load_version(store, "m", 1, artifact=artifact).backend.run({"image": pixels()})
        np.testing.assert_allclose(next(iter(outputs.values())), expected(classifier), atol=1e-5)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_onnx_model_takes_pixels(store: Store, tmp_path: Path, layout: str, dtype: str) -> None:
    from onnx import TensorProto, helper

    shape = ("batch", 8, 8, 3) if layout == "nhwc" else ("batch", 3, 8, 8)
    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.FLOAT16
    path = save_onnx(
        tmp_path / "m.onnx", [helper.make_node("Neg", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)]
    )
    scaling = Scaling(SCALING.scale, SCALING.mean, SCALING.std, layout)  # type: ignore[arg-type]
    published(store, path, image=image(scaling))
    outputs = load_version(store, "m", 1).backend.run({"image": pixels()})
    np.testing.assert_allclose(outputs["y"], -scaling.apply(pixels(), dtype), atol=2e-3 if dtype == "float16" else 1e-6)


def test_an_onnx_input_may_be_called_image(store: Store, tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    shape = ("batch", 8, 8, 3)
    node = helper.make_node("Neg", ["image"], ["y"])
    floats = [("image", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)]
    published(store, save_onnx(tmp_path / "m.onnx", [node], *floats), image=image())
    outputs = load_version(store, "m", 1).backend.run({"image": pixels()})
    np.testing.assert_allclose(outputs["y"], -SCALING.apply(pixels(), "float32"), atol=1e-6)


def test_weights_beside_an_onnx_file_come_along(store: Store, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(lookup(tmp_path / "whole.onnx"))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size
    published(store, tmp_path / "m.onnx", golden={"index": np.array([3])})
    assert load_version(store, "m", 1).backend.run({"index": np.array([1])})["row"].tolist() == [[2, 3]]


def test_uint8_models_are_left_as_they_are(store: Store, tmp_path: Path) -> None:
    source = brightness(tmp_path / "light.onnx")
    manifest = published(store, source, image=image(Scaling())).manifest
    assert (store.directory("m", 1) / "model.onnx").stat().st_size <= source.stat().st_size + 64
    assert manifest.preprocessing is not None
    assert manifest.preprocessing.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("details", "wanted", "used", "verdict"),
    [
        pytest.param(False, None, True, "on: it is within the tolerance", id="within"),
        pytest.param(True, None, False, "off: it differs by up to", id="outside"),
        pytest.param(True, True, True, "on, as asked for", id="asked for"),
        pytest.param(False, False, False, "off, as asked for", id="not asked for"),
    ],
)
def test_scaled_decoding_is_a_matter_of_the_answers(
    store: Store, tmp_path: Path, details: bool, wanted: bool | None, used: bool, verdict: str
) -> None:
    """The mean of a picture stays what it is, its pixels do not."""
    path = identity(tmp_path / "m.onnx", (32, 32, 3)) if details else brightness(tmp_path / "m.onnx", 32, 32)
    manifest = published(store, path, scaled_decode=wanted).manifest
    assert manifest.preprocessing == Preprocessing(height=32, width=32, scaled_decode=used)
    assert manifest.decoding is not None
    assert manifest.decoding.verdict.startswith(verdict)
    assert 0 < manifest.decoding.mean_pixel_diff < 5
    assert store.manifest("m", 1) == manifest


def test_scaled_decoding_is_judged_by_the_accuracy_on_labelled_files(store: Store, tmp_path: Path) -> None:
    light = np.arange(40) % 2
    files = [image_bytes(Image.new("RGB", (100, 100), (250 * int(on),) * 3), "JPEG") for on in light]
    rows = np.stack([preprocess(file, Preprocessing(height=32, width=32)) for file in files])
    path = brightness(tmp_path / "m.onnx", 32, 32)
    manifest = published(store, path, validation=Validation({"image": rows}, light, files)).manifest
    assert manifest.decoding is not None
    assert (manifest.decoding.rows, manifest.decoding.accuracy_loss) == (40, 0)
    assert manifest.preprocessing == Preprocessing(height=32, width=32, scaled_decode=True)


def test_a_conversion_that_went_wrong_is_left_out(
    store: Store, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tf2onnx can end well and leave a graph that is something else."""
    monkeypatch.setattr("jobs.publish.convert_to_onnx", lambda _, target: affine(target))
    result = published(store, saved_model)
    assert [artifact.kind for artifact in result.manifest.artifacts] == ["savedmodel"]
    assert result.left_out["onnx-int8"] == "there is no ONNX artifact to make it from"
    assert "Invalid rank for input" in result.left_out["onnx"]
    assert not (store.directory("m", 1) / "model.onnx").exists()


def test_dictionary_outputs_keep_their_names(store: Store, tmp_path: Path) -> None:
    x = keras.Input((2,), name="x")
    outputs = {"twice": layers.Rescaling(2.0)(x), "half": layers.Rescaling(0.5)(x)}
    keras.Model(x, outputs).save(tmp_path / "m.keras")
    published(store, tmp_path / "m.keras")
    for artifact in ("savedmodel", "onnx"):
        answers = load_version(store, "m", 1, artifact=artifact).backend.run({"x": floats([[1, 1]])})
        assert {name: array.tolist() for name, array in answers.items()} == {"twice": [[2, 2]], "half": [[0.5, 0.5]]}


def test_a_tensor_model_is_published_as_it_is(store: Store, tmp_path: Path) -> None:
    result = published(store, affine(tmp_path / "affine.onnx"))
    assert result.manifest.chosen_because == "the only artifact"
    assert result.manifest.preprocessing is None
    assert "savedmodel" in result.left_out
    assert result.left_out["onnx-int8"] == "no rows to tell what it loses were given (--calibration)"
    assert result.manifest.provenance is not None
    assert result.manifest.provenance.libraries["onnxruntime"]


def test_a_model_exported_for_one_batch_size_keeps_it(store: Store, tmp_path: Path) -> None:
    result = published(store, affine(tmp_path / "affine.onnx", rows=2))
    assert result.manifest.signature.batch_size == 2


def test_golden_inputs_can_be_given(store: Store, tmp_path: Path) -> None:
    golden = {"index": np.array([3, 1])}
    published(store, lookup(tmp_path / "lookup.onnx"), golden=golden)
    with np.load(store.directory("m", 1) / "golden.npz") as archive:
        np.testing.assert_array_equal(archive["input:index"], [3, 1])
        np.testing.assert_array_equal(archive["output:row"], [[6, 7], [2, 3]])


def test_an_artifact_can_be_asked_for(store: Store, saved_model: Path, tmp_path: Path) -> None:
    assert published(store, saved_model, artifact="savedmodel").manifest.chosen == "savedmodel"
    with pytest.raises(ConversionFailed, match="artifact savedmodel is not there"):
        published(store, affine(tmp_path / "affine.onnx"), artifact="savedmodel")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(("a", "b"), "2 labels were given, but the model has 3 classes", id="too few"),
        pytest.param(("a", "b", "b"), "must differ", id="twice the same"),
    ],
)
def test_labels_must_fit(store: Store, saved_model: Path, labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidVersion, match=message):
        published(store, saved_model, labels=labels)
    assert store.versions("m") == []


def test_a_taken_number_is_refused(store: Store, tmp_path: Path) -> None:
    published(store, affine(tmp_path / "affine.onnx"), version=3)
    with pytest.raises(VersionExists):
        published(store, affine(tmp_path / "affine.onnx"), version=3)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("junk")
    (tmp_path / "x.keras").write_text("junk")
    (tmp_path / "x.txt").write_text("junk")
    for name, message in (
        ("x.onnx", "ONNX Runtime cannot load"),
        ("x.keras", "Keras cannot load x.keras"),
        ("x.txt", "is neither a SavedModel directory"),
        ("gone", "does not exist"),
    ):
        with pytest.raises(InvalidVersion, match=message):
            open_source(tmp_path / name)


def test_digits_are_read_as_well_as_promised(digits_store: Store) -> None:
    for version, least in ((1, 0.93), (2, 0.985)):
        manifest = digits_store.manifest("digits", version)
        assert manifest is not None
        assert manifest.metrics["accuracy"] >= least
        assert manifest.preprocessing == digits.PREPROCESSING
        accuracies = {artifact.kind: artifact.accuracy or 0.0 for artifact in manifest.artifacts}
        assert accuracies["onnx"] == accuracies["savedmodel"]
        assert accuracies["onnx-int8"] >= accuracies["onnx"] - 0.005
        assert manifest.metrics["accuracy"] == accuracies[manifest.chosen]
        load_version(digits_store, "digits", version, artifact="onnx-int8")


def test_a_publish_that_is_killed_leaves_nothing_visible(store: Store, tmp_path: Path) -> None:
    """The command itself, killed at ten points of its run."""
    source = affine(tmp_path / "affine.onnx")
    command = [str(Path(sys.executable).with_name("tiltyard")), "publish", "m", str(source), "--store", str(store.root)]
    started = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    whole_s = time.monotonic() - started
    for point in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(whole_s * (point + 1) / 11)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for version in store.versions("m"):
            load_version(store, "m", version)
    count = len(store.versions("m"))
    assert store.versions("m") == list(range(1, count + 1))
