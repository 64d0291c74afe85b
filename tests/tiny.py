"""Tiny models of known behaviour, and images of every kind."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.backends import load_backend
from models.golden import write_golden
from models.manifest import Artifact, ArtifactKind, Manifest, OutputKind, Provenance
from models.preprocessing import Preprocessing
from models.store import Store, sha256, size
from models.version import LoadedVersion, load_version

Dimensions = Sequence[int | str]

SHIPPED = Path(__file__).parents[1] / "serve_config.yaml"


def floats(values: Any) -> npt.NDArray[np.float32]:
    """A float32 array."""
    return np.array(values, np.float32)


def save_onnx(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Dimensions]],
    outputs: Sequence[tuple[str, int, Dimensions]],
    constants: dict[str, npt.NDArray[Any]] | None = None,
) -> Path:
    """Write and check an ONNX model."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, kind, shape in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def affine(path: Path, rows: int | str = "batch") -> Path:
    """y = 2 x + 1 for x float32 [rows, 3]."""
    nodes = [helper.make_node("Mul", ["x", "two"], ["m"]), helper.make_node("Add", ["m", "one"], ["y"])]
    constants = {"two": floats([2]), "one": floats([1])}
    return save_onnx(
        path, nodes, [("x", TensorProto.FLOAT, (rows, 3))], [("y", TensorProto.FLOAT, (rows, 3))], constants
    )


def lookup(path: Path) -> Path:
    """Rows of a table of four: an index above 3 makes ONNX Runtime raise."""
    return save_onnx(
        path,
        [helper.make_node("Gather", ["table", "index"], ["row"])],
        [("index", TensorProto.INT64, ("batch",))],
        [("row", TensorProto.FLOAT, ("batch", 2))],
        {"table": np.arange(8, dtype=np.float32).reshape(4, 2)},
    )


def two_inputs(path: Path) -> Path:
    """total = a + b and double = 2 a, for float32 [rows, 2]."""
    return save_onnx(
        path,
        [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Add", ["a", "a"], ["double"])],
        [(name, TensorProto.FLOAT, ("batch", 2)) for name in "ab"],
        [(name, TensorProto.FLOAT, ("batch", 2)) for name in ("total", "double")],
    )


def brightness(path: Path, height: int = 8, width: int = 8, channels: int = 3) -> Path:
    """Probabilities of `dark` and `light` from the mean of uint8 [rows, height, width, channels]."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["f", "full"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["light"], keepdims=0),
        helper.make_node("Unsqueeze", ["light", "last"], ["light2"]),
        helper.make_node("Sub", ["one", "light2"], ["dark2"]),
        helper.make_node("Concat", ["dark2", "light2"], ["classes"], axis=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "full": floats([255]),
        "one": floats([1]),
        "axes": np.array([1, 2, 3], np.int64),
        "last": np.array([1], np.int64),
    }
    return save_onnx(
        path,
        nodes,
        [("image", TensorProto.UINT8, ("batch", height, width, channels))],
        [("classes", TensorProto.FLOAT, ("batch", 2))],
        constants,
    )


def network(
    path: Path, *, rows: int | str = "batch", features: int = 8, width: int = 16, classes: int = 3, gain: float = 1.0
) -> Path:
    """Probabilities of x float32 [rows, features] by two layers of fixed weights; `active` [rows, width] is between."""
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]
    constants = {
        "w1": floats(generator.standard_normal((features, width)) * gain),
        "w2": floats(generator.standard_normal((width, classes)) / gain),
    }
    x, y = ("x", TensorProto.FLOAT, (rows, features)), ("y", TensorProto.FLOAT, (rows, classes))
    return save_onnx(path, nodes, [x], [y], constants)


def identity(path: Path, shape: Sequence[int]) -> Path:
    """What comes in goes out, as float32: it shows what the server fed."""
    return save_onnx(
        path,
        [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT)],
        [("image", TensorProto.UINT8, ("batch", *shape))],
        [("pixels", TensorProto.FLOAT, ("batch", *shape))],
    )


def not_a_number(path: Path) -> Path:
    """Square roots of minus the pixels of uint8 [rows, 2, 1, 1], as two classes: NaN unless they are black."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["f"], ["n"]),
        helper.make_node("Sqrt", ["n"], ["s"]),
        helper.make_node("Reshape", ["s", "flat"], ["classes"]),
    ]
    return save_onnx(
        path,
        nodes,
        [("image", TensorProto.UINT8, ("batch", 2, 1, 1))],
        [("classes", TensorProto.FLOAT, ("batch", 2))],
        {"flat": np.array([-1, 2], np.int64)},
    )


def put(
    store: Store,
    model: str,
    source: Path,
    golden: dict[str, npt.NDArray[Any]],
    *,
    version: int | None = None,
    kind: ArtifactKind = "onnx",
    preprocessing: Preprocessing | None = None,
    output: OutputKind = "tensors",
    labels: tuple[str, ...] | None = None,
) -> LoadedVersion:
    """Publish a model file as it is, with golden outputs from its own backend, and load it."""
    backend = load_backend(kind, source)
    with store.stage(model) as staging:
        path = staging / "model.onnx"
        path.write_bytes(source.read_bytes())
        write_golden(staging, golden, backend.run(golden))
        manifest = Manifest(
            model=model,
            version=version or 1,
            signature=backend.signature,
            preprocessing=preprocessing,
            output=output,
            labels=labels,
            artifacts=(Artifact(kind=kind, path=path.name, sha256=sha256(path), bytes=size(path)),),
            chosen=kind,
            chosen_because="the only artifact",
            provenance=Provenance(source=source.name),
        )
        number = store.commit(staging, manifest, version).version
    return load_version(store, model, number)


def shipped_config(directory: Path, store: Store) -> Path:
    """A copy of the serve_config.yaml that is shipped, whose gateway keeps its histories in another store."""
    path = directory / "serve_config.yaml"
    path.write_text(SHIPPED.read_text().replace("store: models/store ", f"store: {store.root} "))
    return path


def affine_service(store: Store, entry: str) -> str:
    """A serve_config.yaml with version 1 of `affine`, and what the routing policy says of that model, as YAML."""
    return f"""\
applications:
  - name: gateway
    route_prefix: /
    import_path: deployments.app:gateway
    args: {{store: {store.root}}}
    deployments:
      - name: Router
        user_config:
          models:
            affine: {entry}
  - name: affine-v1
    route_prefix: null
    import_path: deployments.app:model_version
    args: {{model: affine, version: 1, store: {store.root}, threads: 2}}
"""


def image_bytes(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width: int = 16, height: int = 8) -> Image.Image:
    """A picture in which every corner differs, so turning or flipping it shows."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = x * 255 // max(1, width - 1), y * 255 // max(1, height - 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 64)], axis=-1).astype(np.uint8))


def png_of_size(width: int, height: int) -> bytes:
    """A valid PNG header that promises any number of pixels in a few bytes."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )
