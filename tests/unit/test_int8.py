"""int8 artifacts: made, measured, kept or left out, and what a replica makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from jobs.conversion import open_source
from jobs.measurement import Validation, compare
from jobs.publish import Publication, Published, choose, publish
from jobs.quantization import write_int8
from jobs.tolerance import Tolerance
from models.backends import load_backend
from models.errors import ConversionFailed, InvalidRequest, InvalidVersion
from models.golden import write_golden
from models.manifest import Artifact, Manifest
from models.store import Store
from models.version import load_version
from tests.tiny import affine, floats, lookup, save_onnx

ROWS, INPUTS, HIDDEN, CLASSES = 240, 8, 32, 3


def network(path: Path, classify: bool, rows: int | str = "batch") -> Path:
    """Two layers with fixed random weights; with `classify` a softmax behind them."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax" if classify else "Identity", ["logits"], ["y"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "w1": floats(generator.standard_normal((INPUTS, HIDDEN))),
        "b1": floats(np.zeros(HIDDEN)),
        "w2": floats(generator.standard_normal((HIDDEN, CLASSES))),
        "b2": floats(np.zeros(CLASSES)),
    }
    x, y = ("x", TensorProto.FLOAT, (rows, INPUTS)), ("y", TensorProto.FLOAT, (rows, CLASSES))
    return save_onnx(path, nodes, [x], [y], constants)


def inputs(rows: int = ROWS, spread: float = 1.0) -> dict[str, npt.NDArray[np.float32]]:
    return {"x": floats(np.random.default_rng(1).standard_normal((rows, INPUTS)) * spread)}


def labelled(path: Path) -> Validation:
    """Rows with the classes that the exact model names."""
    return Validation(inputs(), load_backend("onnx", path).run(inputs())["y"].argmax(axis=1))


def published(store: Store, path: Path, **options: Any) -> Published:
    return publish(store, Publication(model="m", source=open_source(path), **options), lambda _: None)


def int8(result: Published) -> Artifact:
    return result.manifest.find("onnx-int8")


def test_weights_are_int8_and_probabilities_are_not(tmp_path: Path) -> None:
    write_int8(network(tmp_path / "m.onnx", classify=True), tmp_path / "int8.onnx", inputs(), None)
    weights = [tensor for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(tensor.dims) == 2]
    assert {tensor.data_type for tensor in weights} == {TensorProto.INT8}
    outputs = load_backend("onnx-int8", tmp_path / "int8.onnx").run(inputs())["y"]
    assert len(np.unique(outputs)) > 256
    np.testing.assert_allclose(outputs, load_backend("onnx", tmp_path / "m.onnx").run(inputs())["y"], atol=0.2)


def test_labelled_rows_decide_by_accuracy(store: Store, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", classify=True)
    made = int8(published(store, path, validation=labelled(path), tolerance=Tolerance(max_accuracy_loss=0.05)))
    assert made.path == "model.int8.onnx"
    assert made.accuracy is not None
    assert 0.95 <= made.accuracy <= 1
    assert made.agreement == pytest.approx(made.accuracy)
    assert made.compared_rows == ROWS * 2 // 3  # the others calibrated it


def test_without_labels_the_likeliest_class_decides(store: Store, tmp_path: Path) -> None:
    made = int8(published(store, network(tmp_path / "m.onnx", True), calibration=inputs(), tolerance=Tolerance(0, 0.9)))
    assert made.agreement is not None
    assert made.agreement >= 0.9
    assert made.accuracy is None


def test_other_outputs_are_held_against_their_range(store: Store, tmp_path: Path) -> None:
    tolerance = Tolerance(max_difference=0.1)
    made = int8(published(store, network(tmp_path / "m.onnx", False), golden=inputs(), tolerance=tolerance))
    assert made.agreement is None
    assert made.relative_diff is not None
    assert 0 < made.relative_diff <= 0.1


@pytest.mark.parametrize(
    ("classify", "labels", "tolerance", "why"),
    [
        pytest.param(
            True, True, Tolerance(max_accuracy_loss=-1), "points of accuracy; -100 are allowed", id="accuracy"
        ),
        pytest.param(True, False, Tolerance(min_agreement=1.01), "101.0% are asked for", id="agreement"),
        pytest.param(False, False, Tolerance(max_difference=0), "of the output's range on 160 rows", id="difference"),
    ],
)
def test_outside_of_the_tolerance_it_is_left_out_with_its_numbers(
    store: Store, tmp_path: Path, classify: bool, labels: bool, tolerance: Tolerance, why: str
) -> None:
    path = network(tmp_path / "m.onnx", classify)
    rows: dict[str, Any] = {"validation": labelled(path)} if labels else {"calibration": inputs()}
    manifest = published(store, path, tolerance=tolerance, **rows).manifest
    (left,) = [left for left in manifest.left_out if left.kind == "onnx-int8"]
    assert why in left.why
    assert left.measured is not None
    assert left.measured.latency_ms is not None
    assert not (store.directory("m", 1) / "model.int8.onnx").exists()
    assert store.manifest("m", 1) == manifest
    manifest = published(store, path, tolerance=tolerance, artifact="onnx-int8", **rows).manifest
    assert manifest.chosen == "onnx-int8"
    assert manifest.chosen_because.startswith("asked for, though it ")
    assert load_version(store, "m", 2).backend.run(inputs(3))["y"].shape == (3, CLASSES)


def test_too_few_rows_are_no_reason_to_give_up_precision(store: Store, tmp_path: Path) -> None:
    result = published(store, network(tmp_path / "m.onnx", True), golden=inputs(4))
    assert result.left_out["onnx-int8"].startswith("too few golden rows to tell what it loses: 4 of at least 16")
    with pytest.raises(ConversionFailed, match="artifact onnx-int8 is not there .*too few golden rows"):
        published(store, network(tmp_path / "m.onnx", True), golden=inputs(4), artifact="onnx-int8")


def test_a_fixed_batch_size_is_kept(store: Store, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", False, rows=2)
    manifest = published(store, path, calibration=inputs(33), golden=inputs(2), artifact="onnx-int8").manifest
    assert manifest.find("onnx-int8").compared_rows == 22
    assert manifest.signature.batch_size == 2


def test_right_classes_need_a_classifier(store: Store, tmp_path: Path) -> None:
    validation = Validation({"x": np.ones((20, 3), np.float32)}, np.zeros(20, np.int64))
    nodes = [helper.make_node("ReduceSum", ["x", "last"], ["y"], keepdims=0)]
    x, y = ("x", TensorProto.FLOAT, ("batch", 3)), ("y", TensorProto.FLOAT, ("batch",))
    path = save_onnx(tmp_path / "m.onnx", nodes, [x], [y], {"last": np.array([1], np.int64)})
    with pytest.raises(InvalidRequest, match="not one row of classes per instance"):
        published(store, path, validation=validation)


def test_what_cannot_be_quantised_is_left_out(store: Store, tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_text("junk")
    with pytest.raises(ConversionFailed, match="quantisation: "):
        write_int8(tmp_path / "junk.onnx", tmp_path / "int8.onnx", inputs(), None)
    result = published(store, lookup(tmp_path / "m.onnx"), calibration={"index": np.arange(40) % 4})
    assert result.manifest.chosen == "onnx"


def test_a_replica_notices_int8_that_computes_something_else(store: Store, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx", classify=False)
    made = int8(published(store, path, calibration=inputs(), golden=inputs(4), artifact="onnx-int8"))
    assert made.max_abs_diff is not None
    directory = store.directory("m", 1)
    expected = load_backend("onnx", path).run(inputs(4))["y"]
    (directory / "golden.npz").chmod(0o644)
    for times, reproduced in ((0.9, True), (4.0, False)):
        write_golden(directory, inputs(4), {"y": expected + np.float32(times * made.max_abs_diff)})
        if reproduced:
            load_version(store, "m", 1)
        else:
            with pytest.raises(InvalidVersion, match="golden check failed: output 'y' is off by"):
                load_version(store, "m", 1)


@pytest.mark.parametrize(("int8_ms", "chosen"), [(0.5, "onnx-int8"), (0.95, "onnx")])
def test_precision_is_given_up_for_speed_only(int8_ms: float, chosen: str) -> None:
    exact = Artifact(kind="onnx", path="model.onnx", bytes=1, latency_ms=1.0)
    quantised = Artifact(kind="onnx-int8", path="model.int8.onnx", bytes=1, latency_ms=int8_ms)
    assert choose([exact, quantised], None, {})[0] == chosen


def test_outputs_that_are_not_floats_must_be_the_same() -> None:
    reference = {"class": np.array([0, 1, 2, 2]), "score": floats([0, 1, 2, 4])}
    candidate = {"class": np.array([0, 1, 2, 1]), "score": floats([0, 1, 2, 5])}
    compared = compare(candidate, reference, "tensors")
    assert (compared.rows, compared.agreement, compared.relative_diff) == (4, 0.75, 0.25)
    assert compared.outside(Tolerance()) == "it agrees on 75.0% of 4 rows; 99.0% are asked for"


def test_manifests_from_before_int8_are_read(store: Store, tmp_path: Path) -> None:
    manifest = published(store, affine(tmp_path / "m.onnx")).manifest
    old = manifest.model_dump(mode="json", exclude={"left_out": True})
    for artifact in old["artifacts"]:
        for name in ("agreement", "relative_diff", "compared_rows"):
            del artifact[name]
    assert Manifest.model_validate(old).artifacts == manifest.artifacts
