"""An int8 form of an ONNX model: static quantisation, its ranges calibrated on rows the model will really see."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jobs.converter import run_converter
from jobs.embedding import without_embedding
from models.errors import ConversionFailed
from models.signature import Tensors, rows_of

BATCH = 8
"""Rows that are run at once to find the ranges, where the model takes any number."""

_FLOAT_OPERATORS = {"Softmax", "LogSoftmax"}
"""They stay in float: in 256 steps a probability of 0.001 would be 0."""

_FLOAT_OUTPUTS = ["Gemm", "MatMul"]
"""They multiply int8 and answer float: it costs nothing, and the logits of a classifier keep their resolution."""


_ELEMENTWISE = {"Mul", "Sub", "Div", "Add"}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU"}


def write_int8(source: Path, target: Path, rows: Tensors, batch: int | None) -> None:
    """Quantise an ONNX file in a process of its own, so that its memory goes with it.

    `batch` is the number of rows that the model was exported for, None where it takes any. Raises ConversionFailed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(Path(scratch) / "rows.npz", allow_pickle=False, **rows)
        command = [sys.executable, "-m", "jobs.quantization", str(source), str(target), scratch, str(batch or BATCH)]
        try:
            run_converter("quantisation", command, target)
        except ConversionFailed:
            target.unlink(missing_ok=True)
            raise


def quantize(source: Path, target: Path, scratch: Path, batch: int) -> None:
    """Write `target` from `source` with the rows in `scratch/rows.npz`.

    Activations are uint8 and weights int8 per channel, which ONNX Runtime computes fastest on a CPU with VNNI
    instructions. Without them its sums of two products can saturate at 16 bits; a replica on such a CPU notices,
    because its golden outputs are off. The scaling of pixels is part of the graph and stays in it, in float.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = scratch / "prepared.onnx"
    quant_pre_process(without_embedding(onnx.load(source)), prepared, skip_symbolic_shape=True)
    with np.load(scratch / "rows.npz", allow_pickle=False) as archive:
        reader = _Reader(dict(archive), batch)
    quantize_static(
        prepared,
        target,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted((set(QLinearOpsRegistry) | set(QDQRegistry)) - _FLOAT_OPERATORS),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=False,
        nodes_to_exclude=scaling_nodes(onnx.load(prepared, load_external_data=False)),
        extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUTS},
    )


def scaling_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the elementwise nodes ahead of every layer with weights.

    In int8, multiplying all pixels took a small network 20 % longer than in float, and MobileNetV2 3 % less.
    """
    names = []
    for node in model.graph.node:  # in topological order
        if node.op_type in _WEIGHTED:
            break
        if node.op_type in _ELEMENTWISE:
            names.append(node.name)
    return names


class _Reader:
    """Batches of rows, as ONNX Runtime's calibrators ask for them."""

    def __init__(self, rows: Mapping[str, npt.NDArray[Any]], batch: int) -> None:
        count = rows_of(rows)
        self._batches: Iterator[dict[str, npt.NDArray[Any]]] = (
            {name: array[start : start + batch] for name, array in rows.items()}
            for start in range(0, count - count % batch or count, batch)
        )

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._batches, None)


def main() -> None:
    """Quantise: SOURCE TARGET SCRATCH BATCH."""
    parser = argparse.ArgumentParser()
    for name, kind in (("source", Path), ("target", Path), ("scratch", Path), ("batch", int)):
        parser.add_argument(name, type=kind)
    quantize(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
