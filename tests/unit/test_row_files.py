"""Labelled rows as people keep them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.conversion import open_source
from jobs.publish import Publication, publish, read_validation
from jobs.row_files import read_image_directory, read_labelled
from models.errors import InvalidRequest
from models.preprocessing import Preprocessing
from models.reference import find_reference
from models.store import Store
from tests.tiny import affine, brightness, image_bytes

PREPROCESSING = Preprocessing(height=8, width=8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures each of two classes, and what a file manager leaves there."""
    for label, shade in (("light", 250), ("dark", 5)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(10):
            file = image_bytes(Image.new("RGB", (20, 10 + number), (shade,) * 3))
            (tmp_path / "pictures" / label / f"{number}.png").write_bytes(file)
    (tmp_path / "pictures" / "light" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "pictures" / ".cache").mkdir()
    return tmp_path / "pictures"


def test_directories_are_classes(pictures: Path) -> None:
    found = read_image_directory(pictures, "image", PREPROCESSING, ("dark", "light"))
    assert found.classes.tolist() == [0] * 10 + [1] * 10
    assert found.inputs["image"].mean((1, 2, 3)).tolist() == [5] * 10 + [250] * 10
    assert len(found.files) == 20


def test_without_labels_their_names_are_numbers(pictures: Path) -> None:
    (pictures / "dark").rename(pictures / "1")
    (pictures / "light").rename(pictures / "0")
    assert read_image_directory(pictures, "image", PREPROCESSING, None).classes.tolist() == [0] * 10 + [1] * 10


def test_publish_refers_to_them_as_they_would_be_sent(store: Store, tmp_path: Path, pictures: Path) -> None:
    given = Publication("m", open_source(brightness(tmp_path / "m.onnx")), labels=("dark", "light"))
    given = Publication("m", given.source, labels=given.labels, validation=read_validation(pictures, given))
    manifest = publish(store, given, lambda _: None).manifest
    assert manifest.metrics == {"accuracy": 1.0}
    found = find_reference(store, "m", 1)
    assert found is not None
    rows = found.read(["image_width", "image_height", "true_label"])
    assert set(rows["image_width"].to_pylist()) == {20}
    assert rows["image_height"].to_pylist() == [*range(10, 20)] * 2
    assert rows["true_label"].to_pylist() == ["dark"] * 10 + ["light"] * 10


def test_what_is_wrong_is_named(pictures: Path, tmp_path: Path) -> None:
    labels = ("dark", "light")
    with pytest.raises(InvalidRequest, match=r"light: expected directories named as classes, each one of --labels"):
        read_image_directory(pictures, "image", PREPROCESSING, ("dark", "grey"))
    with pytest.raises(InvalidRequest, match=r"dark: .* the index of a class, or give --labels"):
        read_image_directory(pictures, "image", PREPROCESSING, None)
    (pictures / "dark" / "a.png").write_bytes(b"no image")
    with pytest.raises(InvalidRequest, match=r"dark/a\.png: the bytes are not a PNG"):
        read_image_directory(pictures, "image", PREPROCESSING, labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="there is no image"):
        read_image_directory(tmp_path / "empty", "image", PREPROCESSING, labels)
    with pytest.raises(InvalidRequest, match="is a directory of images, but the model takes none"):
        read_validation(pictures, Publication("m", open_source(affine(tmp_path / "m.onnx"))))


def test_arrays_need_classes(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.zeros((3, 2)))
    with pytest.raises(InvalidRequest, match="and `classes`"):
        read_labelled(path)
    np.savez(path, x=np.zeros((3, 2)), classes=np.arange(2))
    with pytest.raises(InvalidRequest, match="as many rows as `classes`, which has 2"):
        read_labelled(path)
    np.savez(path, x=np.zeros((3, 2)), classes=np.arange(3))
    assert read_labelled(path).classes.tolist() == [0, 1, 2]
