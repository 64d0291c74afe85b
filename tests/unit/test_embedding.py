"""The embedding beside an ONNX classifier's answer: found, projected, carried, and no bit of the answer changed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from deployments.fleet import Fleet
from deployments.inference import Call, Inference
from deployments.lane import Lane
from deployments.messages import Answer, Capacity, Description, Reply, Requests, TensorRequest
from deployments.settings import Batching
from jobs.conversion import open_source
from jobs.embedding import DIMENSIONS, add_embedding, projection
from jobs.measurement import Validation
from jobs.publish import Publication, publish
from jobs.quantization import write_int8
from jobs.tolerance import Tolerance
from models.backends import EMBEDDING, load_backend
from models.manifest import Artifact, Embedding, Manifest
from models.store import Store
from models.version import load_version
from tests.fakes import Near, NoImages, soon
from tests.tiny import affine, brightness, floats, network, save_onnx, two_inputs

Array = npt.NDArray[Any]
FEATURES, WIDTH = 8, 16


def rows(count: int = 5) -> dict[str, Array]:
    return {"x": floats(np.random.default_rng(1).standard_normal((count, FEATURES)))}


def made(path: Path, nodes: list[Any], constants: dict[str, Array], kind: int = TensorProto.FLOAT) -> Path:
    """A model from x to y, both [rows, ...]."""
    return save_onnx(path, nodes, [("x", kind, ("batch", FEATURES))], [("y", kind, ("batch", 3))], constants)


def weights(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(2).standard_normal(shape).astype(dtype)


def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), [output], **attributes)


def gemm_of_turned_weights(path: Path) -> Path:
    return made(path, [node("Gemm", "x w b", "y", transB=1)], {"w": weights(3, FEATURES), "b": weights(3)})


def product_and_sum(path: Path) -> Path:
    nodes = [node("MatMul", "x w", "m"), node("Add", "b m", "l"), node("Softmax", "l", "y")]
    return made(path, nodes, {"w": weights(FEATURES, 3), "b": weights(3)})


def turned_in_the_graph(path: Path) -> Path:
    nodes = [node("Transpose", "t", "w", perm=[1, 0]), node("MatMul", "x w", "y")]
    return made(path, nodes, {"t": weights(3, FEATURES)})


def reshaped_behind(path: Path) -> Path:
    nodes = [node("MatMul", "x w", "m"), node("Reshape", "m s", "r"), node("Div", "r t", "y")]
    constants: dict[str, Array] = {"w": weights(FEATURES, 3), "s": np.array([-1, 3]), "t": floats([2])}
    return made(path, nodes, constants)


def half_precision(path: Path) -> Path:
    nodes = [node("MatMul", "x w", "m"), node("Softmax", "m", "y")]
    return made(path, nodes, {"w": weights(FEATURES, 3, dtype=np.float16)}, TensorProto.FLOAT16)


@pytest.mark.parametrize(
    "make", [gemm_of_turned_weights, product_and_sum, turned_in_the_graph, reshaped_behind, half_precision]
)
def test_the_input_of_the_last_layer_is_projected(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "m.onnx")
    inputs = rows()
    if make is half_precision:
        inputs = {"x": inputs["x"].astype(np.float16)}
    before = load_backend("onnx", path).run(inputs)["y"]
    embedding = add_embedding(path, inputs)
    assert embedding == Embedding(output=EMBEDDING, tensor="x", width=FEATURES, dimensions=DIMENSIONS, seed=0)
    backend = load_backend("onnx", path)
    after = backend.run_with_embedding(inputs)
    assert after["y"].tobytes() == before.tobytes() == backend.run(inputs)["y"].tobytes()
    assert set(backend.run(inputs)) == {"y"}
    assert [spec.name for spec in backend.signature.outputs] == ["y"]
    assert after[EMBEDDING].dtype == np.float16
    expected = inputs["x"].astype(np.float32) @ projection(FEATURES)
    np.testing.assert_allclose(after[EMBEDDING], expected, rtol=2e-3, atol=2e-3)


def rank_three(path: Path) -> Path:
    nodes = [node("Reshape", "x s", "r"), node("MatMul", "r w", "m"), node("Reshape", "m t", "y")]
    shapes = {"s": np.array([-1, 3, 4]), "t": np.array([-1, 3])}
    inputs, outputs = [("x", TensorProto.FLOAT, ("batch", 12))], [("y", TensorProto.FLOAT, ("batch", 3))]
    return save_onnx(path, nodes, inputs, outputs, {"w": weights(4, 1), **shapes})


def averaged(path: Path) -> Path:
    nodes = [node("MatMul", "x w", "m"), node("ReduceMean", "m", "y", keepdims=1)]
    return made(path, nodes, {"w": weights(FEATURES, 3)})


def of_two_inputs(path: Path) -> Path:
    nodes = [node("MatMul", "x x", "m"), node("Softmax", "m", "y")]
    return save_onnx(path, nodes, [("x", TensorProto.FLOAT, (3, 3))], [("y", TensorProto.FLOAT, (3, 3))])


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        pytest.param(rank_three, {"x": floats(np.ones((2, 12)))}, id="not [rows, width]"),
        pytest.param(averaged, rows(), id="averaged behind it"),
        pytest.param(affine, {"x": floats([[1, 2, 3]])}, id="no layer"),
        pytest.param(two_inputs, {"a": floats([[1, 2]]), "b": floats([[1, 2]])}, id="two outputs"),
        pytest.param(of_two_inputs, {"x": floats(np.eye(3))}, id="no weights"),
        pytest.param(brightness, {"image": np.zeros((2, 8, 8, 3), np.uint8)}, id="no product"),
        pytest.param(lambda path: network(path, gain=1e8), rows(), id="more than float16 holds"),
    ],
)
def test_where_there_is_none_the_file_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], Path], inputs: dict[str, Array]
) -> None:
    path = make(tmp_path / "m.onnx")
    before = path.read_bytes()
    assert add_embedding(path, inputs) is None
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_int8_graph_gives_nearly_the_same(tmp_path: Path) -> None:
    path, quantised = network(tmp_path / "m.onnx"), tmp_path / "int8.onnx"
    add_embedding(path, rows())
    write_int8(path, quantised, rows(64), None)
    assert all(EMBEDDING not in each.name for each in onnx.load(quantised).graph.initializer)
    before = load_backend("onnx-int8", quantised).run(rows(64))["y"]
    embedding = add_embedding(quantised, rows())
    assert embedding is not None
    assert embedding.width == WIDTH
    after = load_backend("onnx-int8", quantised).run_with_embedding(rows(64))
    assert after["y"].tobytes() == before.tobytes()
    exact = load_backend("onnx", path).run_with_embedding(rows(64))[EMBEDDING].astype(np.float32)
    assert np.abs(after[EMBEDDING] - exact).max() < 0.02 * np.ptp(exact)


def validation(path: Path) -> Validation:
    inputs = rows(64)
    return Validation(inputs, load_backend("onnx", path).run(inputs)["y"].argmax(axis=1))


def test_published_classifiers_give_it_and_tell_so(store: Store, tmp_path: Path) -> None:
    path = network(tmp_path / "m.onnx")
    source = load_backend("onnx", path)
    for _ in range(2):  # a published artifact is published again
        given = Publication("m", open_source(path), validation=validation(path), tolerance=Tolerance(0.5))
        manifest = publish(store, given, lambda _: None).manifest
        assert {each.kind: each.embedding and each.embedding.width for each in manifest.artifacts} == {
            "onnx": WIDTH,
            "onnx-int8": WIDTH,
            "openvino": WIDTH,
            "openvino-int8": WIDTH,
        }
        assert [spec.name for spec in manifest.signature.outputs] == ["y"]
        path = store.directory("m", manifest.version) / "model.onnx"
        names = [each.name for each in onnx.load(path).graph.output]
        assert names == ["y", EMBEDDING]
        loaded = load_version(store, "m", manifest.version, artifact="onnx").backend
        assert loaded.run(rows())["y"].tobytes() == source.run(rows())["y"].tobytes()


def test_models_of_tensors_give_none(store: Store, tmp_path: Path) -> None:
    path = made(tmp_path / "m.onnx", [node("MatMul", "x w", "y")], {"w": weights(FEATURES, 3)})
    manifest = publish(store, Publication("m", open_source(path)), lambda _: None).manifest
    assert (manifest.output, manifest.artifacts[0].embedding) == ("tensors", None)


def test_a_manifest_of_before_is_read(store: Store) -> None:
    artifact = Artifact.model_validate_json('{"kind": "onnx", "path": "model.onnx", "bytes": 1}')
    assert artifact.embedding is None


@pytest.mark.parametrize("sizes", [{}, {"max_batch_size": 4, "allowed_batch_sizes": [4]}], ids=["any", "padded"])
def test_each_request_of_a_batch_gets_its_own_rows(tmp_path: Path, sizes: dict[str, Any]) -> None:
    path = network(tmp_path / "m.onnx")
    add_embedding(path, rows())
    backend = load_backend("onnx", path)
    inference = Inference("m", backend)
    inference.apply(Batching.model_validate(sizes))
    inputs = rows(7)["x"]
    parts = [inputs[:1], inputs[1:6], inputs[6:]]
    outcomes = asyncio.run(inference.predict(Call([TensorRequest({"x": part}, 10) for part in parts])))
    expected = backend.run_with_embedding({"x": inputs})
    for outcome, span in zip(outcomes, (slice(0, 1), slice(1, 6), slice(6, 7)), strict=True):
        assert isinstance(outcome, Answer)
        assert set(outcome.outputs) == {"y"}
        assert outcome.embedding is not None
        np.testing.assert_allclose(outcome.embedding, expected[EMBEDDING][span], atol=2e-3)


class OneServer(Near):
    """A version whose batches are small."""

    def __init__(self, path: Path) -> None:
        backend = load_backend("onnx", path)
        self.capacity = Capacity("here", 2, max_rows=2, max_waiting_rows=100)
        artifact = Artifact(kind="onnx", path="model.onnx", bytes=1)
        self.manifest = Manifest(
            model="m", version=1, signature=backend.signature, artifacts=(artifact,), chosen="onnx", chosen_because=""
        )
        self.inference = Inference("m", backend)

    async def describe(self, model: str, version: int) -> Description:
        return Description(self.manifest, self.capacity)

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        return Reply(await self.inference.predict(Call(requests)), self.capacity)


@pytest.mark.parametrize("embeds", [True, False])
def test_a_request_in_pieces_gets_all_of_it(tmp_path: Path, embeds: bool) -> None:
    path = network(tmp_path / "m.onnx")
    if embeds:
        add_embedding(path, rows())

    async def ask() -> Answer:
        lane = Lane("m", 1, OneServer(path), NoImages(), Fleet(), 1000)
        await lane.describe()
        return await lane.predict(rows(5), soon())

    answer = asyncio.run(ask())
    assert answer.outputs["y"].shape == (5, 3)
    if not embeds:
        assert answer.embedding is None
        return
    assert answer.embedding is not None
    expected = load_backend("onnx", path).run_with_embedding(rows(5))[EMBEDDING]
    np.testing.assert_allclose(answer.embedding, expected, atol=2e-3)
