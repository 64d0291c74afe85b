"""How requests become batches, and batches answers again."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import ModelFailed
from models.signature import Tensors, rows_of

Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """How many rows are computed at once; where some sizes are allowed only, the last row is repeated up to one."""

    max_rows: int
    allowed: tuple[int, ...] = ()

    def padded(self, rows: int) -> int:
        """The size that so many rows are given."""
        return next((size for size in self.allowed if size >= rows), rows)


def run_batch(run: Run, items: Sequence[Tensors], sizes: BatchSizes) -> list[Tensors | ModelFailed]:
    """Run items of any number of rows together; return the outputs of each, or why it has none, in order.

    Items of different shapes do not share a batch. Where a batch fails, its items run alone, so only the bad one
    fails.
    """
    results: list[Tensors | ModelFailed] = [ModelFailed("not run")] * len(items)
    for indices in _alike(items):
        outcomes = _run_alike(run, [items[i] for i in indices], sizes)
        for index, outcome in zip(indices, outcomes, strict=True):
            results[index] = outcome
    return results


def size_of(tensors: Tensors) -> int:
    """Size in bytes, of texts their length."""
    return sum(
        array.nbytes if array.dtype.kind != "O" else sum(len(text) for text in array.flat) for array in tensors.values()
    )


def _alike(items: Sequence[Tensors]) -> list[list[int]]:
    """Indices of items that can be joined: same names, dtypes and shapes but for the rows."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[tuple(sorted((name, str(a.dtype), a.shape[1:]) for name, a in item.items()))].append(index)
    return list(groups.values())


def _run_alike(run: Run, items: list[Tensors], sizes: BatchSizes) -> Sequence[Tensors | ModelFailed]:
    try:
        outputs = join([_run_piece(run, piece, sizes) for piece in pieces(join(items), sizes.max_rows)])
    except ModelFailed as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in _run_alike(run, [item], sizes)]
    return split(outputs, [rows_of(item) for item in items])


def _run_piece(run: Run, inputs: Tensors, sizes: BatchSizes) -> Tensors:
    rows = rows_of(inputs)
    size = sizes.padded(rows)
    outputs = run(_padded(inputs, size - rows) if size > rows else inputs)
    return {name: _checked(name, array, size)[:rows] for name, array in outputs.items()}


def pieces(inputs: Tensors, max_rows: int) -> list[Tensors]:
    """Cut into pieces of at most so many rows; views, not copies."""
    rows = rows_of(inputs)
    if rows <= max_rows:
        return [inputs]
    return [
        {name: array[start : start + max_rows] for name, array in inputs.items()} for start in range(0, rows, max_rows)
    ]


def join(items: Sequence[Tensors]) -> Tensors:
    """Concatenate the rows of items that are alike."""
    if len(items) == 1:
        return items[0]
    return {name: np.concatenate([item[name] for item in items]) for name in items[0]}


def split(outputs: Tensors, rows: Sequence[int]) -> list[Tensors]:
    """Give each item its rows back."""
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for count, end in zip(rows, ends, strict=True)
    ]


def _padded(inputs: Tensors, rows: int) -> Tensors:
    return {name: np.concatenate([array, np.repeat(array[-1:], rows, axis=0)]) for name, array in inputs.items()}


def _checked(name: str, array: np.ndarray, rows: int) -> np.ndarray:
    if array.ndim == 0 or len(array) != rows:
        raise ModelFailed(f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows")
    return array
