"""OpenVINO artifacts: the ONNX file by another runtime, in the precision of the CPU, within the tolerance."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from jobs.tolerance import Tolerance
from models.backends import Backend, load_backend
from models.backends.openvino import OpenVinoBackend
from models.errors import InvalidVersion, ModelFailed
from models.golden import write_golden
from models.manifest import Artifact
from models.store import Store
from models.version import load_version, prepare
from tests.tiny import affine, floats, lookup, network, save_onnx
from tests.unit.test_int8 import inputs, labelled, published
from tests.unit.test_int8 import network as classifier


def exact(path: Path, **options: Any) -> Backend:
    return load_backend("openvino", path, precision="float32", **options)


def test_it_answers_as_onnx_runtime_does(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", classify=True)
    ours, theirs = exact(path), load_backend("onnx", path)
    assert ours.signature == theirs.signature
    assert (ours.precision, theirs.precision) == ("float32", None)
    for rows in (1, 3, 7):
        np.testing.assert_allclose(ours.run(inputs(rows))["y"], theirs.run(inputs(rows))["y"], atol=1e-5)


def test_sizes_that_it_is_prepared_for_answer_the_same(tmp_path: Path) -> None:
    backend = exact(classifier(tmp_path / "m.onnx", classify=True))
    expected = {rows: backend.run(inputs(rows))["y"] for rows in (1, 2, 4)}
    for sizes, new in (((1, 4), {1, 4}), ((4,), set()), ((), set()), ((2,), {2})):
        assert set(backend.prepare(sizes)) == new
        assert _compiled_for(backend) == list(sizes)
        for rows, outputs in expected.items():
            np.testing.assert_allclose(backend.run(inputs(rows))["y"], outputs, atol=1e-6)


def _compiled_for(backend: Backend) -> list[int]:
    """The sizes of the models that answer, as OpenVINO tells them."""
    assert isinstance(backend, OpenVinoBackend)
    shapes = {rows: each.model.inputs[0].get_partial_shape() for rows, each in backend._by_size.items()}
    assert all(shape.is_static and shape[0].get_length() == rows for rows, shape in shapes.items())
    return sorted(shapes)


def test_outputs_have_the_names_of_the_file(tmp_path: Path) -> None:
    """OpenVINO leaves the Identity out; its tensor has two names then."""
    backend = exact(classifier(tmp_path / "m.onnx", classify=False))
    assert [spec.name for spec in backend.signature.outputs] == ["y"]


def test_a_prepared_size_is_held_against_the_golden_outputs(store: Store, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", classify=True)
    published(store, path, validation=labelled(path), tolerance=Tolerance(0.05), artifact="openvino")
    directory, loaded = store.directory("m", 1), load_version(store, "m", 1)
    prepare(directory, loaded, (1, 6))
    assert _compiled_for(loaded.backend) == [1, 6]
    (directory / "golden.npz").chmod(0o644)
    write_golden(directory, inputs(4), {"y": loaded.backend.run(inputs(4))["y"] + np.float32(0.5)})
    with pytest.raises(InvalidVersion, match="golden check failed: output 'y' is off by 0.5"):
        prepare(directory, loaded, (1, 6, 8))
    assert _compiled_for(loaded.backend) == []


def test_a_model_of_one_size_stays_as_it_is(tmp_path: Path) -> None:
    backend = exact(affine(tmp_path / "m.onnx", rows=2))
    backend.prepare((1, 4))
    assert backend.run({"x": floats([[1, 2, 3], [0, 0, 0]])})["y"].shape[0] == 2


def test_threads_do_not_get_each_others_answers(tmp_path: Path) -> None:
    backend = exact(classifier(tmp_path / "m.onnx", classify=True))
    rows = inputs(8)["x"]
    alone = [backend.run({"x": row[None]})["y"] for row in rows]
    wrong: list[int] = []

    def ask(place: int) -> None:
        for _ in range(100):
            if not np.allclose(backend.run({"x": rows[place][None]})["y"], alone[place], atol=1e-6):
                wrong.append(place)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_does_not_fit_is_a_failure_of_the_model(tmp_path: Path) -> None:
    backend = exact(affine(tmp_path / "m.onnx"))
    with pytest.raises(ModelFailed, match=r"OpenVINO: .*are incompatible"):
        backend.run({"x": floats([[1, 2]])})


def test_what_cannot_be_loaded_is_told_without_its_directory(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_text("junk")
    with pytest.raises(InvalidVersion, match=r"OpenVINO cannot load junk\.onnx") as caught:
        load_backend("openvino", tmp_path / "junk.onnx")
    assert str(tmp_path) not in str(caught.value)


def test_indices_are_left_to_onnx_runtime(tmp_path: Path) -> None:
    """Beyond the table OpenVINO reads zeros."""
    with pytest.raises(InvalidVersion, match="input 'index' is int64, which OpenVINO does not compute exactly"):
        load_backend("openvino", lookup(tmp_path / "m.onnx"))


def test_other_types_are_not_served(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    text = ("batch",)
    path = save_onnx(tmp_path / "m.onnx", [node], [("x", TensorProto.STRING, text)], [("y", TensorProto.STRING, text)])
    with pytest.raises(InvalidVersion, match="'y' is a string, which is not served with OpenVINO"):
        load_backend("openvino", path)


def test_it_computes_on_cpus_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidVersion, match="provider 'cuda' runs no OpenVINO artifacts"):
        load_backend("openvino", affine(tmp_path / "m.onnx"), provider="cuda")


def test_nobody_is_told_that_it_was_imported() -> None:
    """OpenVINO's own import sends an event over the network where its telemetry is installed, as here."""
    code = "import sys, models.backends.openvino; print([name for name, module in sys.modules.items() if module])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'openvino.tools.ovc.telemetry_stub'" in shown
    assert "'openvino_telemetry'" not in shown


def test_without_it_publish_says_how_to_get_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "models.backends.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    path = classifier(tmp_path / "m.onnx", classify=True)
    result = published(store, path, validation=labelled(path), tolerance=Tolerance(0.05))
    assert result.left_out["openvino"] == "OpenVINO is not installed (pip install 'tiltyard[openvino]')"
    assert result.manifest.chosen.startswith("onnx")


def test_it_is_measured_and_its_file_is_shared(store: Store, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", classify=True)
    manifest = published(
        store, path, validation=labelled(path), tolerance=Tolerance(0.05), artifact="openvino"
    ).manifest
    made = {kind: manifest.find(kind) for kind in ("onnx", "onnx-int8", "openvino", "openvino-int8")}
    assert made["openvino"].path == made["onnx"].path
    assert made["openvino-int8"].path == made["onnx-int8"].path
    for kind in ("openvino", "openvino-int8"):
        assert made[kind].precision in ("float32", "bfloat16", "float16")
        assert (made[kind].accuracy or 0.0) >= 0.95
        assert made[kind].latency_ms
    for artifact in ("openvino", "openvino-int8"):
        loaded = load_version(store, "m", 1, artifact=artifact)
        assert loaded.backend.precision == made[artifact].precision
    manifest_file = store.directory("m", 1) / "manifest.json"
    manifest_file.chmod(0o644)
    manifest_file.write_text(
        re.sub('"precision": "b?float(16|32)"', '"precision": "float32"', manifest_file.read_text())
    )
    assert load_version(store, "m", 1, artifact="openvino").backend.precision == "float32"


def test_outside_of_the_tolerance_it_is_left_out_or_asked_for(store: Store, tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", classify=True)
    rows: dict[str, Any] = {"calibration": inputs(), "tolerance": Tolerance(min_agreement=1.01)}
    result = published(store, path, **rows)
    assert "101.0% are asked for" in result.left_out["openvino"]
    assert (store.directory("m", 1) / "model.onnx").exists()
    manifest = published(store, path, artifact="openvino", **rows).manifest
    assert (manifest.chosen, manifest.chosen_because[:18]) == ("openvino", "asked for, though ")
    manifest = published(store, path, artifact="openvino-int8", **rows).manifest
    assert manifest.chosen == "openvino-int8"
    assert (store.directory("m", 3) / "model.int8.onnx").exists()
    assert "onnx-int8" not in {each.kind for each in manifest.artifacts}


def test_without_rows_nothing_tells_what_it_loses(store: Store, tmp_path: Path) -> None:
    result = published(store, network(tmp_path / "m.onnx"))
    assert result.left_out["openvino"] == "no rows to tell what it loses were given (--calibration)"


def test_a_precision_that_a_cpu_has_not_is_float32() -> None:
    """A version that was published on a CPU with bfloat16 is served on one without."""
    from models.backends import openvino as backend

    class Old:
        def get_property(self, device: str, name: str) -> list[str]:
            assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
            return ["FP32", "INT8", "BIN"]

    assert backend._supported(Old(), "bfloat16") == "f32"
    assert backend._supported(Old(), "float32") == "f32"


def test_manifests_keep_the_precision() -> None:
    artifact = Artifact(kind="openvino", path="model.onnx", bytes=1, precision="bfloat16")
    assert Artifact.model_validate_json(artifact.model_dump_json()) == artifact
