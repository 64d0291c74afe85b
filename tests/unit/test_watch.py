import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.watch import Watch
from models.store import Store
from tests.tiny import affine, floats, put

SERVED = {("affine", 1)}
SETTLED_S = 0.05


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One version of `affine`."""
    made = Store(tmp_path / "store")
    put(made, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    return made


def found(watch: Watch) -> list[tuple[str, int]]:
    return watch.newcomers(SERVED)


def settle() -> None:
    time.sleep(2 * SETTLED_S)


def test_a_new_version_is_told_once_when_it_has_settled(store: Store) -> None:
    watch = Watch(store, SETTLED_S)
    assert found(watch) == []
    shutil.copytree(store.root / "affine" / "1", store.root / "affine" / "2")
    assert found(watch) == []
    settle()
    assert found(watch) == [("affine", 2)]
    assert found(watch) == []


def test_one_that_is_still_growing_is_not_told(store: Store) -> None:
    watch = Watch(store, SETTLED_S)
    growing = store.root / "affine" / "3"
    growing.mkdir()
    for size in (1000, 2000, 3000):
        (growing / "model.onnx").write_bytes(np.zeros(size, np.uint8).tobytes())
        assert found(watch) == []
        settle()
    assert found(watch) == [("affine", 3)]


def test_one_that_failed_is_tried_again_when_it_has_changed(store: Store) -> None:
    watch = Watch(store, SETTLED_S)
    half = store.root / "affine" / "2"
    half.mkdir()
    whole = (store.root / "affine" / "1" / "model.onnx").read_bytes()
    (half / "model.onnx").write_bytes(whole[:10])
    found(watch)
    settle()
    assert found(watch) == [("affine", 2)]
    (half / "model.onnx").write_bytes(whole)
    assert found(watch) == []
    settle()
    assert found(watch) == [("affine", 2)]


def test_older_versions_and_other_models_are_left_alone(store: Store, tmp_path: Path) -> None:
    put(store, "other", affine(tmp_path / "other.onnx"), {"x": floats([[1, 2, 3]])})
    shutil.copytree(store.root / "affine" / "1", store.root / "affine" / "2")
    watch = Watch(store, SETTLED_S)
    assert watch.newcomers({("affine", 2)}) == []
    settle()
    assert watch.newcomers({("affine", 2)}) == []


def test_one_that_is_being_taken_out_is_not_told_once_that_is_known(store: Store) -> None:
    """Its application is gone from the file a moment before the history says that it was retired."""
    shutil.copytree(store.root / "affine" / "1", store.root / "affine" / "2")
    watch = Watch(store, SETTLED_S)
    assert watch.newcomers(SERVED, was_here=lambda model, version: False) == []
    settle()
    assert watch.newcomers(SERVED, was_here=lambda model, version: True) == []
    (store.root / "affine" / "2" / "more").touch()
    assert watch.newcomers(SERVED, was_here=lambda model, version: True) == []
    settle()
    assert watch.newcomers(SERVED, was_here=lambda model, version: True) == [("affine", 2)]
