import numpy as np
import pytest

from models.classification import classify
from models.prediction_columns import prediction_columns
from tests.tiny import floats

LABELS = ("a", "b", "c")


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_rows_are_told_as_clients_are_told_them(output: str) -> None:
    random = np.random.default_rng(0)
    rows = random.dirichlet([1, 1, 1], 50) if output == "probabilities" else random.normal(size=(50, 3)) * 5
    columns = prediction_columns({"y": rows.astype(np.float32)}, output, LABELS)  # type: ignore[arg-type]
    assert columns.probabilities is not None
    for index, row in enumerate(rows.astype(np.float32)):
        told = classify(row, output, LABELS)  # type: ignore[arg-type]
        probabilities = sorted(told.probabilities.values())
        assert columns.label[index] == told.label
        assert columns.confidence[index] == pytest.approx(told.confidence, rel=1e-5)
        assert columns.margin[index] == pytest.approx(probabilities[-1] - probabilities[-2], abs=1e-6)
        entropy = -sum(p * np.log(p) for p in probabilities if p)
        assert columns.entropy[index] == pytest.approx(entropy, abs=1e-5)
        assert columns.probabilities[index].tolist() == pytest.approx(list(told.probabilities.values()), rel=1e-5)


def test_a_row_of_nan_says_nothing_and_leaves_the_others_alone() -> None:
    columns = prediction_columns({"y": floats([[1, 0, 0], [np.nan, 0, 1], [0, 1, 0]])}, "probabilities", LABELS)
    assert columns.label.tolist() == ["a", None, "b"]
    arrow = columns.arrow()
    assert arrow["confidence"].to_pylist() == [1, None, 1]
    assert arrow["entropy"].to_pylist() == [0, None, 0]
    assert arrow["probabilities"].to_pylist() == [[1, 0, 0], None, [0, 1, 0]]


def test_tensors_and_many_classes() -> None:
    nothing = prediction_columns({"y": floats([[1, 2], [3, 4]])}, "tensors", None).arrow()
    assert [column.null_count for column in nothing.values()] == [2] * 5
    many = prediction_columns({"y": np.eye(101, dtype=np.float32)[:2]}, "probabilities", None)
    assert many.label.tolist() == ["0", "1"]
    assert many.probabilities is None


def test_a_single_class_has_nothing_beside_it() -> None:
    columns = prediction_columns({"y": floats([[1]])}, "probabilities", None)
    assert (columns.margin.tolist(), columns.entropy.tolist()) == ([1], [0])
