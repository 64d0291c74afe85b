"""Labels that stand for more predictions than others, as `label-sample` draws them."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from jobs.drift.blocks import clustered_error
from jobs.drift.evidence import Hour
from jobs.drift.frame import Frame
from jobs.drift.harm import _calibration, calibration_bins, expected_calibration_error
from jobs.drift.job import _with_accuracy
from jobs.drift.labelled import Labelled

ROWS = 400


def labels(weighted: bool) -> Frame:
    """Half right with a confidence of 0.9, half wrong with 0.7; the wrong ones stand for a ninth each."""
    right = np.arange(ROWS) % 2 == 0
    return Frame(
        pa.table(
            {
                "time": pa.array(np.arange(ROWS), pa.timestamp("us", tz="UTC")),
                "label": ["a"] * ROWS,
                "true_label": np.where(right, "a", "b").tolist(),
                "confidence": np.where(right, 0.9, 0.7),
                "weight": np.where(right, 9.0, 1.0) if weighted else np.ones(ROWS),
            }
        )
    )


def labelled(weighted: bool) -> Labelled:
    return Labelled(labels(weighted), np.arange(ROWS))


@pytest.mark.parametrize(("weighted", "accuracy", "confidence"), [(False, 0.5, 0.8), (True, 0.9, 0.88)])
def test_calibration_is_of_what_the_labels_stand_for(weighted: bool, accuracy: float, confidence: float) -> None:
    (found,) = _calibration(labelled(False), labelled(weighted))
    assert found.current == pytest.approx(confidence - accuracy)
    assert f"{100 * accuracy:.0f} % are right" in found.words
    expected = 0.5 * 0.1 + 0.5 * 0.7 if not weighted else 0.9 * 0.1 + 0.1 * 0.7
    assert expected_calibration_error(labelled(weighted)) == pytest.approx(expected)


def test_a_bin_is_of_what_its_labels_stand_for() -> None:
    frame = labels(True).table
    same = frame.set_column(frame.column_names.index("confidence"), "confidence", pa.array([0.85] * ROWS))
    (only,) = calibration_bins(Labelled(Frame(same), np.arange(ROWS)))
    assert only.accuracy == pytest.approx(0.9)
    assert only.rows == ROWS


def test_an_hour_is_of_what_its_labels_stand_for() -> None:
    hour = Hour(datetime(1970, 1, 1, tzinfo=UTC), 1000.0, 0.0)
    found = _with_accuracy(hour, labels(True))
    assert found.accuracy == pytest.approx(0.9)
    assert found.labelled == ROWS


def test_unequal_weights_make_a_mean_less_certain() -> None:
    dice = np.random.default_rng(0)
    values, blocks = dice.normal(size=1000), np.arange(1000)
    alike = clustered_error(values, blocks)
    assert clustered_error(values, blocks, np.full(1000, 7.0)) == pytest.approx(alike)
    assert clustered_error(values, blocks, np.where(blocks % 10, 1.0, 20.0)) > 1.5 * alike
