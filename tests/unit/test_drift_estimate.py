"""What is said of the accuracy where labels are few or none."""

import numpy as np
import pytest

from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame
from jobs.drift.labelled import LEAST_LABELLED
from tests.drift_frames import outputs


@pytest.mark.parametrize("shift", [0.0, 6.0])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (0, "there is no feedback"),
        (1, f"only 1 prediction is labelled, at least {LEAST_LABELLED} are needed"),
        (49, f"only 49 predictions are labelled, at least {LEAST_LABELLED} are needed"),
    ],
)
def test_too_few_labels_are_not_called_none(labels: int, words: str, shift: float) -> None:
    dice = np.random.default_rng(0)
    reference = outputs(1000, dice)
    if not shift:
        reference = Frame(reference.table.drop_columns(["true_label"]))
    window = outputs(1000, dice, shift)
    known = window.take(np.arange(labels)) if labels else None
    harm = examine(reference, Window(window, known)).tiers[2]
    assert harm.severity == "unknown"
    assert words in harm.words[0].lower() + harm.words[1:]
