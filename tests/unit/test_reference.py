"""What traffic is compared with: the validation set, or production that was frozen."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.conversion import ImageInput, Scaling, open_source
from jobs.frozen_reference import FEWEST_ROWS, draw, freeze, unfreeze
from jobs.measurement import Validation
from jobs.publish import Publication, publish
from models.backends import EMBEDDING, load_backend
from models.errors import InvalidRequest, InvalidVersion, ModelNotFound, VersionNotFound
from models.features import image_columns, image_features, sample
from models.manifest import Manifest
from models.prediction_columns import prediction_columns
from models.preprocessing import Preprocessing, picture, preprocess
from models.reference import TRUE_LABEL, FoundReference, find_reference
from models.store import Store
from models.traffic_tables import TrafficTables
from models.version import load_version
from tests.records import NOON, feedback, predictions
from tests.tiny import affine, brightness, floats, gradient, image_bytes, network, put

LABELS = ("dark", "light")
HOUR = timedelta(hours=1)


@pytest.fixture
def tables(tmp_path: Path) -> TrafficTables:
    return TrafficTables(str(tmp_path / "traffic"))


@pytest.fixture
def plain(store: Store, tmp_path: Path) -> Store:
    """A store with a version of `digits` as they were before there were references."""
    put(store, "digits", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    return store


def published(store: Store, path: Path, **options: Any) -> Manifest:
    return publish(store, Publication("m", open_source(path), **options), lambda _: None).manifest


def found_in(store: Store, model: str = "m", version: int = 1) -> FoundReference:
    found = find_reference(store, model, version)
    assert found is not None
    return found


def files(count: int) -> list[bytes]:
    """Pictures of several sizes and kinds."""
    kinds = [("PNG", (40, 20)), ("JPEG", (64, 64)), ("WEBP", (16, 48))]
    return [
        image_bytes(gradient(*kinds[n % 3][1]).point(lambda v, n=n: v * (n + 1) // count), kinds[n % 3][0])
        for n in range(count)
    ]


def test_image_files_are_told_as_the_log_tells_of_them(store: Store, tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=8, width=8)
    sent, classes = files(20), np.arange(20) % 2
    pixels = np.stack([preprocess(file, preprocessing) for file in sent])
    manifest = published(
        store,
        brightness(tmp_path / "m.onnx"),
        labels=LABELS,
        validation=Validation({"image": pixels}, classes, sent),
        image=ImageInput(preprocessing, Scaling()),
        scaled_decode=False,
    )
    found = found_in(store)
    rows = found.read()
    assert (found.rows, found.origin.source, found.origin.drawn_from) == (20, "validation", 20)
    assert manifest.reference is not None
    assert (manifest.reference.rows, manifest.reference.bytes) == (20, found.path.stat().st_size)
    told = image_columns([image_features(sample(picture(file, preprocessing))) for file in sent])
    for name, values in told.items():
        assert rows[name].to_pylist() == values.tolist()
    assert rows["image_format"].to_pylist()[:3] == ["PNG", "JPEG", "WEBP"]
    assert rows[TRUE_LABEL].to_pylist() == [LABELS[index] for index in classes]
    outputs = load_version(store, "m", 1).backend.run({"image": pixels})
    expected = prediction_columns(outputs, "probabilities", LABELS)
    assert rows["label"].to_pylist() == expected.label.tolist()
    assert rows["entropy"].to_pylist() == expected.entropy.tolist()
    assert rows["embedding"].null_count == 20  # the last layer of this one is not found
    assert rows["input_image_mean"].null_count == 0  # clients may send tensors, too


def test_of_resized_pixels_only_what_resizing_keeps_is_told(store: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    published(store, brightness(tmp_path / "m.onnx"), validation=Validation({"image": pixels}, np.arange(20) % 2))
    rows = found_in(store).read()
    known = {name for name in rows.column_names if name.startswith("image_") and not rows[name].null_count}
    assert known == {"image_brightness", "image_red", "image_green", "image_blue"}
    unknown = {name for name in rows.column_names if name.startswith("image_")} - known
    assert all(rows[name].null_count == 20 for name in unknown)
    np.testing.assert_allclose(rows["image_red"].to_numpy(), pixels[..., 0].mean((1, 2)) / 255, atol=1e-5)


def test_rows_of_tensors_are_told_with_their_embedding(store: Store, tmp_path: Path) -> None:
    inputs = {"x": floats(np.random.default_rng(0).standard_normal((70, 8)))}
    published(store, network(tmp_path / "m.onnx"), validation=Validation(inputs, np.arange(70) % 3), artifact="onnx")
    rows = found_in(store).read()
    for index in range(8):
        assert rows[f"input_x_{index}"].to_pylist() == inputs["x"][:, index].tolist()
    backend = load_backend("onnx", store.directory("m", 1) / "model.onnx")
    expected = backend.run_with_embedding(inputs)[EMBEDDING]
    told = np.stack([np.frombuffer(each, "<f2") for each in rows["embedding"].to_pylist()])
    np.testing.assert_allclose(told, expected, atol=2e-3)
    assert rows[TRUE_LABEL].to_pylist() == [str(index % 3) for index in range(70)]
    assert set(rows["item"].to_pylist()) == set(range(70))


def test_a_model_of_a_fixed_batch_is_asked_in_whole_batches(store: Store, tmp_path: Path) -> None:
    inputs = {"x": floats(np.random.default_rng(0).standard_normal((22, 8)))}
    published(store, network(tmp_path / "m.onnx", rows=4), validation=Validation(inputs, np.arange(22) % 3))
    assert found_in(store).rows == 20


def test_without_validation_rows_there_is_none(store: Store, tmp_path: Path) -> None:
    assert published(store, affine(tmp_path / "m.onnx")).reference is None
    assert find_reference(store, "m", 1) is None


def test_a_store_of_before_has_none(plain: Store) -> None:
    path = plain.directory("digits", 1) / "manifest.json"
    assert '"reference": null' in path.read_text()
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"reference": null,', "").replace('"embedding": null', '"accuracy": null'))
    assert find_reference(plain, "digits", 1) is None
    with pytest.raises(VersionNotFound):
        find_reference(plain, "digits", 2)


def test_a_class_that_is_none_is_refused(store: Store, tmp_path: Path) -> None:
    inputs = {"x": floats(np.zeros((20, 8)))}
    with pytest.raises(InvalidRequest, match="`classes` of the validation rows holds 3, but the model has 3 classes"):
        published(store, network(tmp_path / "m.onnx"), validation=Validation(inputs, np.arange(20) % 4))
    assert store.versions("m") == []


def test_one_that_has_changed_is_refused(store: Store, tmp_path: Path) -> None:
    inputs = {"x": floats(np.zeros((20, 8)))}
    published(store, network(tmp_path / "m.onnx"), validation=Validation(inputs, np.arange(20) % 3))
    path = found_in(store).path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidVersion, match=r"reference\.parquet is missing or has changed"):
        find_reference(store, "m", 1)


def log(tables: TrafficTables, count: int, **columns: Any) -> None:
    features = {"image_width": pa.array(np.arange(count), pa.float32())}
    tables.predictions("digits").append(predictions(count, features=features, **columns))


def test_the_first_answers_are_frozen(plain: Store, tables: TrafficTables) -> None:
    log(tables, 600, time=NOON, writer="a")
    log(tables, 600, time=NOON + HOUR, writer="b", variant="challenger", label="3")
    log(tables, 50, time=NOON - HOUR, writer="c", version=2)
    log(tables, 50, time=NOON, writer="d", variant="shadow")
    log(tables, 50, time=NOON, writer="e", status="model_failed", label=None)
    log(tables, 50, time=NOON + 3 * HOUR, writer="f")
    found = freeze(plain, tables, "digits", 1, 2 * HOUR)
    assert found == found_in(plain, "digits")
    assert (found.rows, found.origin.source, found.origin.drawn_from) == (1200, "traffic", 1200)
    assert (found.origin.since, found.origin.until) == (NOON, NOON + HOUR + timedelta(seconds=599))
    rows = found.read()
    assert rows["time"].to_pylist() == sorted(rows["time"].to_pylist())
    assert rows["label"].to_pylist() == ["7"] * 600 + ["3"] * 600
    assert rows["image_width"].to_pylist()[:3] == [0, 1, 2]
    assert not {"request_id", "writer", "sequence"} & set(rows.column_names)
    assert rows[TRUE_LABEL].null_count == 1200


def test_what_feedback_told_comes_along(plain: Store, tables: TrafficTables) -> None:
    log(tables, 600)
    tables.feedback().append(feedback(100, label="1"))
    rows = freeze(plain, tables, "digits", 1, HOUR).read([TRUE_LABEL, "no such column"])
    assert rows.column_names == [TRUE_LABEL]
    assert rows[TRUE_LABEL].to_pylist() == ["1"] * 100 + [None] * 500


def test_more_than_enough_is_drawn_evenly_over_the_hours(plain: Store, tables: TrafficTables) -> None:
    for hour, count in enumerate([3000, 1000, 2000]):
        log(tables, count, time=NOON + hour * HOUR, writer=str(hour), label=str(hour))
    found = freeze(plain, tables, "digits", 1, 3 * HOUR, most=600)
    assert (found.rows, found.origin.drawn_from) == (600, 6000)
    labels = found.read(["label"])["label"].to_pylist()
    assert [labels.count(each) for each in "012"] == [300, 100, 200]


def test_weights_are_respected(plain: Store, tables: TrafficTables) -> None:
    """Three in four predictions of the second half were not logged."""
    log(tables, 2000, writer="a", label="a")
    log(tables, 500, time=NOON + HOUR, writer="b", label="b", weight=4.0)
    rows = freeze(plain, tables, "digits", 1, 2 * HOUR, most=1000).read(["label", "weight"])
    labels = rows["label"].to_pylist()
    assert [labels.count(each) for each in "ab"] == [500, 500]
    assert set(rows["weight"].to_pylist()) == {1.0}


@pytest.mark.parametrize(
    ("weights", "most", "expected"),
    [
        pytest.param([1, 1, 1], 5, [0, 1, 2], id="all"),
        pytest.param([2, 2, 2], 5, [0, 1, 2], id="all of a sample"),
        pytest.param([1, 1, 1, 1, 1, 1], 3, [0, 2, 4], id="every other"),
        pytest.param([1, 1, 6], 4, [1, 2, 2], id="one stands for many"),
    ],
)
def test_rows_are_drawn_as_often_as_their_weights_ask_for(weights: list[float], most: int, expected: list[int]) -> None:
    assert draw(np.array(weights, np.float64), most).tolist() in (expected, [index + 1 for index in expected])


def test_what_was_frozen_is_replaced_and_left_behind(plain: Store, tables: TrafficTables) -> None:
    log(tables, 600, label="a")
    log(tables, 700, time=NOON + HOUR, writer="v", label="b")
    assert freeze(plain, tables, "digits", 1, HOUR).rows == 600
    assert freeze(plain, tables, "digits", 1, HOUR, since=NOON + HOUR).rows == 700
    assert [path.name for path in (plain.root / "digits" / "references").iterdir()] == ["1.parquet"]
    assert plain.versions("digits") == [1]
    assert unfreeze(plain, "digits", 1)
    assert not unfreeze(plain, "digits", 1)
    assert find_reference(plain, "digits", 1) is None


def test_too_little_traffic_is_refused(plain: Store, tables: TrafficTables) -> None:
    with pytest.raises(ModelNotFound, match="no traffic of model 'digits'"):
        freeze(plain, tables, "digits", 1, HOUR)
    log(tables, FEWEST_ROWS - 1)
    with pytest.raises(InvalidRequest, match="only 499 answers of digits version 1 were logged"):
        freeze(plain, tables, "digits", 1, HOUR)
    assert find_reference(plain, "digits", 1) is None
    log(tables, 1, version=3)
    put(plain, "digits", _another(tables), {"x": floats([[1, 2, 3]])})
    with pytest.raises(InvalidRequest, match="no answer of digits version 2 was logged yet"):
        freeze(plain, tables, "digits", 2, HOUR)


def _another(tables: TrafficTables) -> Path:
    return affine(Path(tables.root).parent / "another.onnx")


def test_a_file_that_is_something_else_is_refused(plain: Store) -> None:
    path = plain.root / "digits" / "references" / "1.parquet"
    path.parent.mkdir()
    for content in (b"junk", b""):
        path.write_bytes(content)
        with pytest.raises(InvalidVersion, match="1.parquet is not a reference"):
            find_reference(plain, "digits", 1)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(InvalidVersion, match="1.parquet is not a reference"):
        find_reference(plain, "digits", 1)
