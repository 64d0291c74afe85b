import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.store import Store
from tests.tiny import affine, brightness, floats, put, shipped_config
from tests.unit.test_int8 import inputs, labelled, network

ROOT = Path(__file__).parents[2]


def tiltyard(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("tiltyard")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    brightness(store.root / "plain" / "7" / "model.onnx")
    return store


ROLLOUTS = ("challenge", "weights", "promote", "rollback", "retire", "status", "history", "compare")


@pytest.mark.parametrize("command", ROLLOUTS)
def test_help_of_a_rollout_has_an_example(command: str) -> None:
    assert f"tiltyard {command} digits" in tiltyard(command, "--help").stdout


def test_a_refusal_is_an_object_where_json_is_asked_for() -> None:
    done = tiltyard("promote", "cats", "2", "--json", "--dry-run")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["error"]["code"] == "model_not_found"


def test_help_teaches() -> None:
    done = tiltyard("--help")
    for command in ("train", "publish", "list", "show", "deploy", "undeploy", "tune", "serve", *ROLLOUTS):
        assert command in done.stdout
    for command in ("publish", "deploy"):
        assert "onnx-int8" in tiltyard(command, "--help").stdout
    assert "--scale 0.00392157" in " ".join(tiltyard("publish", "--help").stdout.split())


def test_list_names_every_version(filled: Store) -> None:
    done = tiltyard("list", "--store", str(filled.root))
    assert done.returncode == 0
    assert "affine" in done.stdout
    assert "plain tree" in done.stdout


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    assert "tiltyard train digits" in tiltyard("list", "--store", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("name", "expected"),
    [("affine", "x: float32 [?, 3]"), ("affine@1", "onnx"), ("plain", "image: uint8 [?, 8, 8, 3]")],
)
def test_show_tells_what_is_known(filled: Store, name: str, expected: str) -> None:
    done = tiltyard("show", name, "--store", str(filled.root))
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "cats"), "no model 'cats' in the store; there are: affine, plain"),
        (("show", "affine@2"), "model 'affine' has no version 2; there are: 1"),
        (("show", "affine@new"), "version 'new': expected a positive integer"),
        (("publish", "a/b", "x.onnx"), "model name 'a/b'"),
        (("publish", "m", "gone.onnx"), "gone.onnx does not exist"),
        (("train", "cats"), "there is no training for 'cats'"),
        (("deploy", "cats"), "no model 'cats'"),
        (("deploy", "affine", "--artifact", "onnx-int8"), "version 1 has no artifact onnx-int8; there is: onnx"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_refusal_is_one_line(filled: Store, arguments: tuple[str, ...], message: str) -> None:
    done = tiltyard(*arguments, "--store", str(filled.root))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_deploy_without_a_service_writes_the_file(filled: Store, tmp_path: Path) -> None:
    shipped_config(tmp_path, filled)
    done = tiltyard("deploy", "affine", "--store", str(filled.root), "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No service runs at http://127.0.0.1:9" in done.stdout
    written = (tmp_path / "serve_config.yaml").read_text()
    assert "affine-v1" in written
    assert str(filled.root) in written


def test_publish_prints_a_table(store: Store, tmp_path: Path) -> None:
    source = affine(tmp_path / "affine.onnx")
    np.savez(tmp_path / "golden.npz", x=floats([[1, 2, 3]]))
    options = ("--store", str(store.root), "--golden", str(tmp_path / "golden.npz"))
    done = tiltyard("publish", "affine", str(source), *options)
    assert done.returncode == 0, done.stderr
    assert "Published affine version 1." in done.stdout
    assert "onnx was chosen: the only artifact." in done.stdout
    assert "onnx-int8 was left out: too few golden rows to tell what it loses: 1 of at least 16" in done.stdout
    assert "tiltyard deploy affine@1" in done.stdout


def test_publish_measures_with_rows_of_the_user(store: Store, tmp_path: Path) -> None:
    source = network(tmp_path / "m.onnx", classify=True)
    np.savez(tmp_path / "labelled.npz", x=inputs()["x"], classes=labelled(source).classes)
    np.savez(tmp_path / "rows.npz", x=inputs()["x"])
    rows = ("--validation", str(tmp_path / "labelled.npz"), "--calibration", str(tmp_path / "rows.npz"))
    choice = ("--max-accuracy-loss", "0.05", "--artifact", "onnx-int8")
    done = tiltyard("publish", "m", str(source), "--store", str(store.root), *rows, *choice)
    assert done.returncode == 0, done.stderr
    assert "onnx-int8 was chosen: asked for." in done.stdout
    assert "100.00%" in done.stdout  # accuracy of the exact artifact
    assert "of 240" in done.stdout
    shown = tiltyard("show", "m", "--store", str(store.root))
    assert "onnx-int8 was chosen: asked for." in shown.stdout


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        pytest.param({"x": floats([[1]])}, "expected one array per input, and `classes`", id="no classes"),
        pytest.param({"x": floats([[1]]), "classes": np.array([0, 1])}, "as many rows as `classes`", id="other rows"),
    ],
)
def test_labelled_rows_that_cannot_be_read_are_refused(
    store: Store, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "labelled.npz", allow_pickle=False, **arrays)
    source = affine(tmp_path / "m.onnx")
    options = ("--validation", str(tmp_path / "labelled.npz"), "--store", str(store.root))
    done = tiltyard("publish", "m", str(source), *options)
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())
