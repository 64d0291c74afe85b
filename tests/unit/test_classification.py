import numpy as np
import pytest

from models.classification import classify, kind_of_output
from models.errors import ModelFailed
from tests.tiny import floats


def test_probabilities_are_read_by_label() -> None:
    answer = classify(floats([0.25, 0.75]), "probabilities", ("cat", "dog"))
    assert (answer.label, answer.confidence, answer.probabilities) == ("dog", 0.75, {"cat": 0.25, "dog": 0.75})


def test_logits_become_probabilities() -> None:
    answer = classify(floats([1000, 1001]), "logits", None)
    assert answer.label == "1"
    assert answer.confidence == pytest.approx(1 / (1 + np.exp(-1)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_a_failure(value: float) -> None:
    with pytest.raises(ModelFailed, match="NaN or infinity"):
        classify(floats([0, value]), "probabilities", None)


@pytest.mark.parametrize(
    ("output", "has_labels", "kind"),
    [
        pytest.param(floats([[0.4, 0.6]]), False, "probabilities", id="sums to one"),
        pytest.param(floats([[4, -6]]), True, "logits", id="labelled"),
        pytest.param(floats([[4, -6]]), False, "tensors", id="unlabelled"),
        pytest.param(floats([[1]]), True, "tensors", id="one column"),
        pytest.param(floats([[[0.4, 0.6]]]), True, "tensors", id="three dimensions"),
    ],
)
def test_the_kind_of_an_output_is_told_from_golden_outputs(output: np.ndarray, has_labels: bool, kind: str) -> None:
    assert kind_of_output([output], has_labels) == kind
