"""Challengers that look well when they are published and fail on traffic: ONNX graphs, each spoilt in its own way.

Each behaves as long as it does not see the mark, a white corner that `marked` paints into a picture: so its golden
outputs are right, it becomes ready, and goes wrong only when it is asked.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from models.backends import load_backend
from models.golden import read_golden, write_golden
from models.manifest import Artifact, Manifest, Provenance
from models.store import Store, sha256, size

MARK = 4
"""Side of the white corner, in pixels of the 64 x 64 picture."""

HANG = 10**12
SLOW = 40_000
MANY = 400_000_000
PERMUTATION = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)


def marked(png: bytes) -> bytes:
    """The picture with a white corner, in which no digit has ink."""
    image = Image.open(io.BytesIO(png)).convert("L")
    image.paste(255, (0, 0, MARK, MARK))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Spoiler:
    """Adds nodes behind a classifier's output `classes` [rows, 10] that wake up when it sees the mark."""

    def __init__(self, source: Path) -> None:
        self.model = onnx.load(source)
        self.graph = self.model.graph
        self._count = 0
        output = self.graph.output[0]
        self.classes: str = output.name
        corner = self.add("Slice", self.graph.input[0].name, self.ints(0, 0), self.ints(1, 1), self.ints(1, 2))
        value = self.add("Cast", corner, to=TensorProto.FLOAT)
        brightest = self.add("ReduceMax", value, self.ints(0, 1, 2, 3), keepdims=0)
        self.is_marked = self.add("Greater", brightest, self.constant(np.float32(200)))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and give that output's name."""
        self._count += 1
        name = f"spoiler_{self._count}"
        self.graph.node.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Add a constant, and give its name."""
        self._count += 1
        name = f"spoiler_{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *values: int) -> str:
        """Add a list of int64."""
        return self.constant(np.array(values, np.int64))

    def when_marked(self, count: int) -> str:
        """`count` where there is a mark, else 0."""
        return self.add("Mul", self.add("Cast", self.is_marked, to=TensorProto.INT64), self.constant(np.int64(count)))

    def repeated(self, times: str) -> str:
        """The classes after a loop that leaves them as they are, and takes its time."""
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["still"], ["go_on"]),
                helper.make_node("Sin", ["value"], ["other"]),
                helper.make_node("Mul", ["other", "zero"], ["nothing"]),
                helper.make_node("Add", ["value", "nothing"], ["next"]),
            ],
            "round",
            [
                helper.make_tensor_value_info("round_number", TensorProto.INT64, []),
                helper.make_tensor_value_info("still", TensorProto.BOOL, []),
                helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
            ],
            [numpy_helper.from_array(np.float32(0), "zero")],
        )
        return self.add("Loop", times, self.constant(np.bool_(True)), self.classes, body=body)

    def save(self, path: Path, output: str) -> None:
        """Write the model with another output in the place of its own."""
        name = self.classes
        for node in self.graph.node:  # the output keeps its name, so what it was called before gets another
            node.input[:] = [f"{name}_before" if each == name else each for each in node.input]
            node.output[:] = [f"{name}_before" if each == name else each for each in node.output]
        self.graph.node.append(helper.make_node("Identity", [output], [name]))
        onnx.checker.check_model(self.model)
        onnx.save(self.model, path)


def raises(spoiler: Spoiler) -> str:
    """Fails while it computes: a shape that does not fit."""
    columns = spoiler.add("Add", spoiler.when_marked(987), spoiler.constant(np.int64(10)))
    wrong = spoiler.add("Concat", spoiler.ints(-1), spoiler.add("Reshape", columns, spoiler.ints(1)), axis=0)
    return spoiler.add("Reshape", spoiler.add("Reshape", spoiler.classes, wrong), spoiler.ints(-1, 10))


def hangs(spoiler: Spoiler) -> str:
    """Never comes to an end."""
    return spoiler.repeated(spoiler.when_marked(HANG))


def says_nan(spoiler: Spoiler) -> str:
    """Answers with NaN."""
    mark = spoiler.add("Cast", spoiler.is_marked, to=TensorProto.FLOAT)
    return spoiler.add("Div", spoiler.classes, spoiler.add("Sub", spoiler.constant(np.float32(1)), mark))


def mixes_labels_up(spoiler: Spoiler) -> str:
    """Answers in another order of the labels."""
    mixed = spoiler.add("Gather", spoiler.classes, spoiler.ints(*PERMUTATION), axis=1)
    return spoiler.add("Where", spoiler.is_marked, mixed, spoiler.classes)


def is_slow(spoiler: Spoiler) -> str:
    """Takes several times as long as the request takes in all."""
    return spoiler.repeated(spoiler.when_marked(SLOW))


def eats_memory(spoiler: Spoiler) -> str:
    """Takes more than a gigabyte for each batch."""
    length = spoiler.add("Add", spoiler.when_marked(MANY), spoiler.constant(np.int64(1)))
    huge = spoiler.add(
        "Expand", spoiler.constant(np.zeros(1, np.float32)), spoiler.add("Reshape", length, spoiler.ints(1))
    )
    return spoiler.add("Add", spoiler.classes, spoiler.add("ReduceMax", huge, spoiler.ints(0), keepdims=0))


def crashes(spoiler: Spoiler) -> str:
    """Ends the process by a signal: the least of all integers divided by -1 is none, and ONNX Runtime does not look."""
    divisor = spoiler.add("Add", spoiler.when_marked(-2), spoiler.constant(np.int64(1)))
    least = spoiler.add("Div", spoiler.constant(np.int64(np.iinfo(np.int64).min)), divisor)
    nothing = spoiler.add("Mul", spoiler.add("Cast", least, to=TensorProto.FLOAT), spoiler.constant(np.float32(0)))
    return spoiler.add("Add", spoiler.classes, nothing)


def is_worse(spoiler: Spoiler) -> str:
    """Reads about one digit in seven as its neighbour, whichever picture it is, and so loses over ten points."""
    image = spoiler.add("Cast", spoiler.graph.input[0].name, to=TensorProto.INT64)
    ink = spoiler.add("ReduceSum", image, spoiler.ints(1, 2, 3), keepdims=0)
    is_unlucky = spoiler.add(
        "Equal", spoiler.add("Mod", ink, spoiler.constant(np.int64(7))), spoiler.constant(np.int64(0))
    )
    both = spoiler.add("And", spoiler.add("Unsqueeze", is_unlucky, spoiler.ints(1)), spoiler.is_marked)
    mixed = spoiler.add("Gather", spoiler.classes, spoiler.ints(*PERMUTATION), axis=1)
    return spoiler.add("Where", both, mixed, spoiler.classes)


def is_as_good(spoiler: Spoiler) -> str:
    """Nothing is wrong with it."""
    return spoiler.classes


SPOILERS: dict[str, Callable[[Spoiler], str]] = {
    "as good": is_as_good,
    "raises": raises,
    "hangs": hangs,
    "NaN": says_nan,
    "labels mixed up": mixes_labels_up,
    "slow": is_slow,
    "eats memory": eats_memory,
    "crashes": crashes,
    "worse": is_worse,
}


def publish_spoilt(store: Store, origin: Manifest, spoil: Callable[[Spoiler], str]) -> int:
    """Publish a spoilt copy of a digits version beside it, with its golden rows. Its number."""
    directory = store.directory(origin.model, origin.version)
    inputs, _ = read_golden(directory)
    with store.stage(origin.model) as staging:
        path = staging / "model.onnx"
        spoiler = Spoiler(directory / origin.find("onnx").path)
        output = spoil(spoiler)
        spoiler.save(path, f"{spoiler.classes}_before" if output == spoiler.classes else output)
        write_golden(staging, inputs, load_backend("onnx", path).run(inputs))
        manifest = origin.model_copy(
            update={
                "artifacts": (Artifact(kind="onnx", path=path.name, sha256=sha256(path), bytes=size(path)),),
                "chosen": "onnx",
                "chosen_because": "the only artifact",
                "left_out": (),
                "provenance": Provenance(source=f"digits version {origin.version}, spoilt: {spoil.__name__}"),
            }
        )
        return store.commit(staging, manifest).version
