from pathlib import Path

import numpy as np
import pytest

from models.errors import InvalidVersion
from models.golden import write_golden
from models.store import Store
from models.version import load_version
from tests.tiny import affine, brightness, floats, put


def replace_golden(store: Store, outputs: dict[str, np.ndarray]) -> None:
    directory = store.directory("affine", 1)
    (directory / "golden.npz").chmod(0o644)
    write_golden(directory, {"x": floats([[1, 2, 3]])}, outputs)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        pytest.param({"y": floats([[3, 5, 7.1]])}, "output 'y' is off by 0.1", id="other values"),
        pytest.param({"y": floats([[3, 5]])}, "has shape \\[1, 3\\], expected \\[1, 2\\]", id="other shape"),
        pytest.param({"z": floats([[3, 5, 7]])}, "output 'z' is missing", id="other name"),
        pytest.param({"y": floats([[3, 5, np.nan]])}, "output 'y' is off by inf", id="not a number"),
    ],
)
def test_a_version_that_does_not_reproduce_its_golden_outputs_is_not_loaded(
    store: Store, tmp_path: Path, outputs: dict[str, np.ndarray], message: str
) -> None:
    put(store, "affine", affine(tmp_path / "a.onnx"), {"x": floats([[1, 2, 3]])})
    replace_golden(store, outputs)
    with pytest.raises(InvalidVersion, match=f"affine version 1: golden check failed: .*{message}"):
        load_version(store, "affine", 1)


def test_a_version_without_its_golden_outputs_is_not_loaded(store: Store, tmp_path: Path) -> None:
    put(store, "affine", affine(tmp_path / "a.onnx"), {"x": floats([[1, 2, 3]])})
    (store.directory("affine", 1) / "golden.npz").unlink()
    with pytest.raises(InvalidVersion, match=r"golden.npz is missing"):
        load_version(store, "affine", 1)


def test_an_artifact_that_was_not_made_cannot_be_asked_for(store: Store, tmp_path: Path) -> None:
    put(store, "affine", affine(tmp_path / "a.onnx"), {"x": floats([[1, 2, 3]])})
    with pytest.raises(InvalidVersion, match="no artifact 'savedmodel', only onnx"):
        load_version(store, "affine", 1, artifact="savedmodel")


def test_a_triton_tree_is_served_as_it_stands(store: Store) -> None:
    affine(store.root / "affine" / "3" / "model.onnx")
    (store.root / "affine" / "config.pbtxt").write_text('name: "affine"\nplatform: "onnxruntime_onnx"\n')
    assert store.versions("affine") == [3]
    loaded = load_version(store, "affine", 3)
    assert loaded.manifest.version == 3
    assert str(loaded.manifest.signature.inputs[0]) == "x: float32 [?, 3]"
    np.testing.assert_array_equal(loaded.backend.run({"x": floats([[1, 2, 3]])})["y"], [[3, 5, 7]])


def test_a_plain_model_of_uint8_images_takes_images(store: Store) -> None:
    brightness(store.root / "light" / "1" / "model.onnx", height=8, width=16)
    preprocessing = load_version(store, "light", 1).manifest.preprocessing
    assert preprocessing is not None
    assert preprocessing.shape == (8, 16, 3)


def test_a_file_that_is_no_model_is_not_loaded(store: Store) -> None:
    (store.root / "junk" / "1").mkdir(parents=True)
    (store.root / "junk" / "1" / "model.onnx").write_text("junk")
    with pytest.raises(InvalidVersion, match="junk version 1: ONNX Runtime cannot load the artifact"):
        load_version(store, "junk", 1)
