"""A second output for ONNX classifiers: what the last layer takes, projected to a few numbers.

A drift of what the network sees shows there, whatever the inputs are. The projection is fixed and random: it keeps
distances (Johnson and Lindenstrauss), and costs one small multiplication (loadtests/RESULTS.md: nothing measurable).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper, numpy_helper

from models.backends import EMBEDDING, load_backend
from models.errors import InvalidVersion, ModelFailed
from models.manifest import Embedding
from models.signature import Tensors, rows_of

DIMENSIONS = 32
SEED = 0

# Between the last layer and the output.
_THROUGH = {"Softmax", "LogSoftmax", "Sigmoid", "Add", "Sub", "Mul", "Div", "Clip", "Cast", "Identity"}
_THROUGH |= {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}

# Of a constant, these are constants too.
_KEEP_SHAPE = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear"}

_PREFIX = f"{EMBEDDING}/"

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Layer:
    """What the last layer takes, and how many values a row of it has."""

    tensor: str
    width: int


def add_embedding(path: Path, inputs: Tensors) -> Embedding | None:
    """Add the output to an ONNX file; None, and nothing changes, where its last layer is not found.

    Nor does it where the model's own outputs for `inputs` would not stay the same, bit by bit.
    """
    model = onnx.load(path)
    layer = _last_layer(model.graph)
    if layer is None:
        return None
    embedding = _append(model.graph, layer)
    candidate = path.with_name(f"embedding.{path.name}")
    try:
        onnx.save(model, candidate)
        onnx.checker.check_model(str(candidate))
        if not _is_as_before(path, candidate, inputs):
            return None
        candidate.replace(path)
    except (InvalidVersion, ModelFailed, ValueError, EncodeError, onnx.checker.ValidationError):
        return None  # of more than 2 GB, or of a kind that the check by running it shows not to be [rows, width]
    finally:
        candidate.unlink(missing_ok=True)
    return embedding


def without_embedding(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take the output out again: of a model that was published before, or before it is quantised."""
    graph = model.graph
    for kept in (graph.node, graph.initializer, graph.output):
        others = [each for each in kept if not _is_ours(each.name)]
        if len(others) < len(kept):
            del kept[:]
            kept.extend(others)
    return model


def projection(width: int) -> npt.NDArray[np.float32]:
    """The matrix [width, DIMENSIONS]; the same for every model of that width."""
    drawn = np.random.default_rng(SEED).standard_normal((width, DIMENSIONS))
    return (drawn / np.sqrt(width)).astype(np.float32)


def _is_ours(name: str) -> bool:
    return name == EMBEDDING or name.startswith(_PREFIX)


def _last_layer(graph: onnx.GraphProto) -> _Layer | None:
    """Go back from the only output, past what only bends or shifts it, to the multiplication with weights."""
    if len(graph.output) != 1:
        return None
    constants = _constants(graph)
    producers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while (node := producers.get(name)) is not None:
        if node.op_type in ("Gemm", "MatMul"):
            return _layer(node, constants)
        flowing = [each for each in node.input if each and each not in constants]
        if node.op_type not in _THROUGH or len(flowing) != 1:
            return None
        name = flowing[0]
    return None


def _layer(node: onnx.NodeProto, constants: Shapes) -> _Layer | None:
    data, weights = node.input[0], node.input[1]
    shape = constants.get(weights, ())
    options = {attribute.name: attribute.i for attribute in node.attribute}
    if data in constants or len(shape) != 2 or options.get("transA"):
        return None
    return _Layer(data, shape[1] if options.get("transB") else shape[0])


def _constants(graph: onnx.GraphProto) -> Shapes:
    """Shapes of what does not depend on the inputs."""
    shapes: Shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:  # in topological order
        shapes.update(_constant_outputs(node, shapes))
    return shapes


def _constant_outputs(node: onnx.NodeProto, known: Shapes) -> Iterator[tuple[str, tuple[int, ...]]]:
    if node.op_type == "Constant":
        tensor = next((each.t for each in node.attribute if each.name == "value"), None)
        yield node.output[0], () if tensor is None else tuple(tensor.dims)
    elif node.input and all(not name or name in known for name in node.input):
        shape = known[node.input[0]]
        if node.op_type == "Transpose" and len(shape) == 2:
            yield node.output[0], shape[::-1]
        else:  # of other operators it is only known that they are constant
            for name in node.output:
                yield name, shape if node.op_type in _KEEP_SHAPE else ()


def _append(graph: onnx.GraphProto, layer: _Layer) -> Embedding:
    weights, values, projected = (f"{_PREFIX}{name}" for name in ("projection", "values", "projected"))
    graph.initializer.append(numpy_helper.from_array(projection(layer.width), weights))
    graph.node.extend(
        [
            helper.make_node("Cast", [layer.tensor], [values], name=f"{_PREFIX}float", to=TensorProto.FLOAT),
            helper.make_node("MatMul", [values, weights], [projected], name=f"{_PREFIX}project"),
            helper.make_node("Cast", [projected], [EMBEDDING], name=f"{_PREFIX}half", to=TensorProto.FLOAT16),
        ]
    )
    first = graph.output[0].type.tensor_type.shape.dim[0]
    rows = first.dim_value or first.dim_param or None
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT16, [rows, DIMENSIONS]))
    return Embedding(output=EMBEDDING, tensor=layer.tensor, width=layer.width, dimensions=DIMENSIONS, seed=SEED)


def _is_as_before(path: Path, candidate: Path, inputs: Tensors) -> bool:
    before = load_backend("onnx", path).run(inputs)
    after = dict(load_backend("onnx", candidate).run_with_embedding(inputs))
    made = after.pop(EMBEDDING, None)
    if made is None or made.shape != (rows_of(inputs), DIMENSIONS) or not np.isfinite(made).all():
        return False
    return all(np.array_equal(array.view(np.uint8), after[name].view(np.uint8)) for name, array in before.items())
