"""What is said of the accuracy where labels are few or none."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs.drift.blocks import blocks_of
from jobs.drift.change import compare
from jobs.drift.estimate import estimate_harm
from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame
from jobs.drift.labelled import LEAST_LABELLED, Labelled
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


def test_a_reference_of_bursts_makes_the_estimate_less_certain() -> None:
    """Frozen traffic comes in bursts too: its accuracy is known no better than by its unrelated rows."""
    dice = np.random.default_rng(1)
    window = outputs(2000, dice)
    alike = np.repeat(np.arange(40), 50)  # in each burst all are right, or all are wrong
    table = outputs(2000, dice, burst=50).table
    truth = np.where((dice.random(40) < 0.8)[alike], "yes", "no").tolist()
    reference = Frame(table.set_column(table.column_names.index("true_label"), "true_label", pa.array(truth)))
    blocks = blocks_of(reference)
    widths = []
    for each in (np.arange(reference.rows), blocks):
        between = compare(reference, window, each, blocks_of(window))
        found = estimate_harm(replace(between, separation=None), Labelled(reference, each))
        widths.append(found.effects["high"] - found.effects["low"])
    assert widths[1] > 2 * widths[0]
