from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deployments.batching import BatchSizes, run_batch
from models.errors import ModelFailed
from models.signature import Tensors

SIZES = BatchSizes(32)


class Doubler:
    """Doubles, remembers the size of each batch, and fails on batches that hold a negative number."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        self.batches.append(len(x))
        if x.dtype.kind == "f" and (x < 0).any():
            raise ModelFailed("negative")
        return {"y": x * 2}


def item(*values: float) -> dict[str, npt.NDArray[Any]]:
    return {"x": np.array(values, np.float32)}


def results(outcomes: list[Any]) -> list[Any]:
    return [str(o) if isinstance(o, ModelFailed) else o["y"].tolist() for o in outcomes]


def test_items_share_a_batch_and_get_their_own_rows_back() -> None:
    run = Doubler()
    assert results(run_batch(run, [item(1), item(2, 3), item(4)], SIZES)) == [[2], [4, 6], [8]]
    assert run.batches == [4]


def test_no_batch_is_larger_than_the_maximum() -> None:
    run = Doubler()
    assert results(run_batch(run, [item(*range(5)), item(9)], BatchSizes(2))) == [[0, 2, 4, 6, 8], [18]]
    assert run.batches == [2, 2, 2]


def test_a_bad_item_fails_alone() -> None:
    assert results(run_batch(Doubler(), [item(1), item(-1), item(2)], SIZES)) == [[2], "negative", [4]]


def test_different_shapes_do_not_share_a_batch() -> None:
    run = Doubler()
    wide = {"x": np.ones((1, 3), np.float32)}
    whole = {"x": np.ones(1, np.int64)}
    assert results(run_batch(run, [item(1), wide, item(2), whole], SIZES)) == [[2], [[2, 2, 2]], [4], [2]]
    assert run.batches == [2, 1, 1]


def test_fixed_batches_are_padded_and_the_padding_is_cut_off() -> None:
    run = Doubler()
    assert results(run_batch(run, [item(1, 2, 3)], BatchSizes(2, (2,)))) == [[2, 4, 6]]
    assert run.batches == [2, 2]


@pytest.mark.parametrize("output", [np.zeros(3), np.float32(1)], ids=["wrong number of rows", "scalar"])
def test_outputs_without_a_row_per_input_are_a_failure(output: Any) -> None:
    assert "output 'y' has shape" in results(run_batch(lambda _: {"y": np.asarray(output)}, [item(1)], SIZES))[0]
