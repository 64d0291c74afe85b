"""How requests become batches, and batches answers again."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from models.errors import ModelFailed
from models.signature import Tensors

Run = Callable[[Tensors], Tensors]


def run_batch(
    run: Run, items: Sequence[Tensors], max_rows: int, fixed_rows: int | None = None
) -> list[Tensors | ModelFailed]:
    """Run items of any number of rows together; return the outputs of each, or why it has none, in order.

    Items of different shapes do not share a batch. No batch has more than `max_rows` rows; a model exported for
    `fixed_rows` gets exactly that many, the last ones repeated. Where a batch fails, its items run alone, so only
    the bad one fails.
    """
    results: list[Tensors | ModelFailed] = [ModelFailed("not run")] * len(items)
    for indices in _alike(items):
        outcomes = _run_alike(run, [items[i] for i in indices], max_rows, fixed_rows)
        for index, outcome in zip(indices, outcomes, strict=True):
            results[index] = outcome
    return results


def rows_of(tensors: Tensors) -> int:
    """Number of rows of a batch."""
    return len(next(iter(tensors.values())))


def _alike(items: Sequence[Tensors]) -> list[list[int]]:
    """Indices of items that can be joined: same names, dtypes and shapes but for the rows."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        groups[tuple(sorted((name, str(a.dtype), a.shape[1:]) for name, a in item.items()))].append(index)
    return list(groups.values())


def _run_alike(
    run: Run, items: list[Tensors], max_rows: int, fixed_rows: int | None
) -> Sequence[Tensors | ModelFailed]:
    try:
        outputs = _run_rows(run, join(items), max_rows, fixed_rows)
    except ModelFailed as error:
        if len(items) == 1:
            return [error]
        return [outcome for item in items for outcome in _run_alike(run, [item], max_rows, fixed_rows)]
    return split(outputs, [rows_of(item) for item in items])


def _run_rows(run: Run, inputs: Tensors, max_rows: int, fixed_rows: int | None) -> Tensors:
    """Run all rows, piece by piece where there are more than a batch may have."""
    step = fixed_rows or max_rows
    pieces = []
    for start in range(0, rows_of(inputs), step):
        piece = {name: array[start : start + step] for name, array in inputs.items()}
        rows = rows_of(piece)
        outputs = run(_padded(piece, fixed_rows - rows) if fixed_rows and rows < fixed_rows else piece)
        pieces.append({name: _checked(name, array, fixed_rows or rows)[:rows] for name, array in outputs.items()})
    return join(pieces)


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
