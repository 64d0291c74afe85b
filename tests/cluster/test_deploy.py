"""A person's own model: two commands from a request, while the rest goes on."""

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from jobs.service import get_json
from loadtests.traffic import traffic
from models.golden import write_golden
from models.preprocessing import Preprocessing, preprocess
from models.store import Store
from tests.cluster.conftest import ROOT, Running
from tests.tiny import affine, brightness, floats, image_bytes, lookup, put

PREPROCESSING = Preprocessing(height=224, width=224)
SCALE = 0.00392157


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(load_sample_images().images[0])


@pytest.fixture(scope="module")
def mobilenetv2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of MobileNetV2 without trained weights, but with batch norms that fit photographs.

    The last layer is drawn so that different pictures get different classes; else every answer is the same.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    model = keras.applications.MobileNetV2(weights=None)
    pictures = [image / 255 for image in load_sample_images().images]
    crops = []
    for index in range(32):
        picture = pictures[index % len(pictures)]
        y, x = (generator.integers(0, size - 224) for size in picture.shape[:2])
        crops.append(picture[y : y + 224, x : x + 224])
    batch = np.asarray(crops, np.float32)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # keep nothing of the initial statistics, which are far from the real ones
    model(batch, training=True)
    features = keras.Model(model.input, model.layers[-2].output)(batch, training=False).numpy()
    kernel = generator.standard_normal((features.shape[1], 1000)).astype(np.float32)
    kernel *= 2 / features.std(axis=0).mean() / np.sqrt(len(kernel))
    model.layers[-1].set_weights([kernel, -(features.mean(axis=0) @ kernel)])
    path = tmp_path_factory.mktemp("mobilenetv2") / "saved_model"
    function = tf.function(lambda x: {"predictions": model(x, training=False)}).get_concrete_function(
        tf.TensorSpec((None, 224, 224, 3), tf.float32, name="x")
    )
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(path), signatures=function)
    return path


def in_process(saved_model: Path, files: list[bytes]) -> npt.NDArray[Any]:
    """What the SavedModel itself answers on the same preprocessing."""
    import tensorflow as tf

    pixels = np.stack([preprocess(data, PREPROCESSING) for data in files]).astype(np.float32) * np.float32(SCALE)
    loaded = tf.saved_model.load(str(saved_model))
    answers: npt.NDArray[Any] = loaded.signatures["serving_default"](x=pixels)["predictions"].numpy()
    return answers


def rotated(image: Image.Image) -> bytes:
    """The picture stored on its side, with the EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


@pytest.mark.timeout(600)  # publishing quantises, calibrates and compares, on cores that serve at the same time
def test_a_model_is_two_commands_from_a_request(
    running: Running, mobilenetv2: Path, photograph: Image.Image, tmp_path: Path
) -> None:
    from jobs.conversion import convert_to_onnx

    onnx = tmp_path / "mobilenetv2.onnx"
    convert_to_onnx(mobilenetv2, onnx)
    options = ("--image", "224x224", "--scale", str(SCALE))
    seven = (ROOT / "docs" / "seven.png").read_bytes()
    before = {name: running.replicas(name, "ModelServer") for name in ("digits-v1", "digits-v2")}
    with traffic(f"{running.address}/predict", seven) as result:
        published = running.tiltyard("publish", "mobilenetv2", str(onnx), *options)
        assert published.returncode == 0, published.stderr
        assert "onnx was chosen" in published.stdout
        deployed = running.tiltyard("deploy", "mobilenetv2")
        assert deployed.returncode == 0, deployed.stderr
        assert "+  - name: mobilenetv2-v1" in deployed.stdout
        second = running.tiltyard("publish", "mobilenetv2", str(mobilenetv2), *options, "--artifact", "savedmodel")
        assert second.returncode == 0, second.stderr
        assert "savedmodel was chosen: asked for" in second.stdout
        deployed = running.tiltyard("deploy", "mobilenetv2@2")
        assert deployed.returncode == 0, deployed.stderr
    assert set(result.statuses) == {200}
    assert_none_restarted(running, before)

    files = {
        "image/jpeg": image_bytes(photograph, "JPEG", quality=90),
        "image/png": image_bytes(photograph),
        "image/webp": image_bytes(photograph, "WEBP", quality=90),
        "image/jpeg; rotated": rotated(photograph),
    }
    for (media_type, data), expected in zip(files.items(), in_process(mobilenetv2, list(files.values())), strict=True):
        assert expected.std() > 1e-3, "the model tells pictures apart"
        for version in (1, 2):
            status, answer = running.post(f"/models/mobilenetv2/predict?version={version}", data, media_type)
            assert status == 200, answer
            np.testing.assert_allclose(list(answer["all_probabilities"].values()), expected, atol=1e-4)
            assert answer["predicted_class"] == str(expected.argmax())

    undeployed = running.tiltyard("undeploy", "mobilenetv2")
    assert undeployed.returncode == 0, undeployed.stderr
    assert running.post("/models/mobilenetv2/predict", files["image/png"])[0] == 404
    assert_none_restarted(running, before)


def assert_none_restarted(running: Running, before: dict[str, dict[str, int]]) -> None:
    """Every replica that ran still runs; traffic may have added one."""
    for name, replicas in before.items():
        assert replicas.items() <= running.replicas(name, "ModelServer").items()


def test_a_version_that_does_not_reproduce_its_golden_outputs_changes_nothing(running: Running, tmp_path: Path) -> None:
    put(running.store, "wrong", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    directory = running.store.directory("wrong", 1)
    os.chmod(directory / "golden.npz", 0o644)
    write_golden(directory, {"x": floats([[1, 2, 3]])}, {"y": floats([[0, 0, 0]])})
    before = running.config.read_text()
    done = running.tiltyard("deploy", "wrong")
    assert done.returncode == 1
    assert "golden check failed: output 'y' is off by 7" in done.stderr
    assert "Traceback" not in done.stderr
    assert running.config.read_text() == before
    running.service.wait_until_gone("wrong-v1", 30)
    assert running.post("/models/wrong/predict", b"x")[0] == 404


def test_a_dry_run_changes_nothing(running: Running, tmp_path: Path) -> None:
    put(running.store, "dry", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    before, live = running.config.read_text(), running.service.details()["applications"].keys()
    done = running.tiltyard("deploy", "dry", "--dry-run")
    assert done.returncode == 0
    assert "+  - name: dry-v1" in done.stdout
    assert running.config.read_text() == before
    assert running.service.details()["applications"].keys() == live


@pytest.mark.timeout(600)  # ten commands, each a process that imports Ray, on cores that serve at the same time
def test_a_version_challenges_wins_and_goes_while_nobody_notices(running: Running, tmp_path: Path) -> None:
    """Versions 1 and 2 are alike, 3 takes something else, 4 does not reproduce its golden outputs."""
    model, golden = affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])}
    for version in (1, 2, 4):
        put(running.store, "rolled", model, golden, version=version)
    put(running.store, "rolled", lookup(tmp_path / "l.onnx"), {"index": np.array([1], np.int64)}, version=3)
    broken = running.store.directory("rolled", 4)
    os.chmod(broken / "golden.npz", 0o644)
    write_golden(broken, golden, {"y": floats([[0, 0, 0]])})
    assert running.tiltyard("deploy", "rolled@1").returncode == 0
    names = ("digits-v1", "digits-v2", "rolled-v1")
    before = {name: running.replicas(name, "ModelServer") for name in names}
    url, row = f"{running.address}/v1/models/rolled:predict", b'{"instances": [[1, 2, 3]]}'
    haproxies = running.haproxies()
    try:
        with traffic(url, row, clients=2, media_type="application/json") as result:
            for command, variants in ROLLOUT:
                done = running.tiltyard(*command.split(), "--json")
                assert done.returncode == 0, done.stdout + done.stderr
                assert json.loads(done.stdout)["applied"]
                shown = get_json(f"{running.address}/models/rolled")[1]["versions"]
                assert {v["version"]: (v["variant"], v["share"]) for v in shown} == variants, command
                assert_none_restarted(running, before)
                haproxies |= running.haproxies()
            written = running.config.read_text()
            for version, why in (
                (3, "its inputs are index, not x"),
                (4, "golden check failed: output 'y' is off by 7"),
            ):
                refused = running.tiltyard("challenge", "rolled", str(version))
                assert refused.returncode == 1
                assert why in refused.stderr
                assert running.config.read_text() == written
        assert set(result.statuses) == {200}
        assert len(result.statuses) > 200
        assert len(haproxies) < len(ROLLOUT)  # none for a change, unless a Router is slow to obey it
        running.service.wait_until_gone("rolled-v2", 30)
        assert_none_restarted(running, before)
        told = json.loads(running.tiltyard("history", "rolled", "--json").stdout)["events"]
        actions = [event["action"] for event in told]
        assert actions == ["deploy", "shadow", "challenge", "weights", "promote", "rollback", "retire"]
        status = json.loads(running.tiltyard("status", "rolled", "--json").stdout)["models"][0]
        assert status["applied"] is True
        assert [v["application"] for v in status["versions"]] == ["RUNNING"]
    finally:
        assert running.tiltyard("undeploy", "rolled").returncode == 0


ROLLOUT: tuple[tuple[str, dict[int, tuple[str, Any]]], ...] = (
    ("challenge rolled 2 --shadow --sample 0.5", {1: ("champion", 1.0), 2: ("shadow", ANY)}),
    ("challenge rolled 2 --weight 0.25", {1: ("champion", 0.75), 2: ("challenger", 0.25)}),
    ("weights rolled 2=0.5", {1: ("champion", 0.5), 2: ("challenger", 0.5)}),
    ("promote rolled 2", {2: ("champion", 1.0), 1: ("challenger", 0.0)}),
    ("rollback rolled", {1: ("champion", 1.0), 2: ("challenger", 0.0)}),
    ("retire rolled 2", {1: ("champion", 1.0)}),
)


def test_what_is_not_published_cannot_be_deployed(running: Running) -> None:
    done = running.tiltyard("deploy", "digits@9")
    assert done.returncode == 1
    assert "model 'digits' has no version 9; there are: 1, 2" in done.stderr


def test_trees_of_tensorflow_serving_and_triton_are_deployed_as_they_stand(
    running: Running, mobilenetv2: Path, tmp_path: Path
) -> None:
    """No manifest, no command but deploy."""
    tree = Store(tmp_path / "tree")
    brightness(tree.root / "light" / "4" / "model.onnx", 8, 16)
    lookup(tree.root / "lookup" / "1" / "model.onnx")
    (tree.root / "plain").mkdir()
    (tree.root / "plain" / "1").symlink_to(mobilenetv2)
    for name in ("light", "lookup", "plain"):
        done = running.tiltyard("deploy", name, "--store", str(tree.root))
        assert done.returncode == 0, done.stderr
    try:
        white = image_bytes(Image.new("RGB", (16, 8), "white"))
        status, answer = running.post("/models/light/predict", white)
        assert (status, answer["outputs"], answer["model_version"]) == (200, {"classes": [0.0, 1.0]}, 4)
        zeros = np.zeros((1, 224, 224, 3)).tolist()
        status, answer = running.post(
            "/v1/models/plain:predict", f'{{"instances": {zeros}}}'.encode(), "application/json"
        )
        assert status == 200
        assert len(answer["predictions"][0]) == 1000
        failing = b'{"instances": [99]}'
        status, answer = running.post("/v1/models/lookup:predict", failing, "application/json")
        assert (status, answer["error"]["message"]) == (500, "lookup version 1 could not compute an answer")
    finally:
        for name in ("light", "lookup", "plain"):
            assert running.tiltyard("undeploy", name).returncode == 0
