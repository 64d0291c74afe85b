"""What is said where little or nothing is answered, and what the traffic before is."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.drift.examination import Examination, Window, examine
from jobs.drift.frame import Frame
from jobs.drift.validity import LEAST_ROWS, Counts, Rate
from tests.drift_frames import outputs

BUSY = Counts({"ok": 99_900.0, "model_failed": 100.0}, 20_000)
TOO_FEW = f"300 predictions, at least {LEAST_ROWS} are needed"


def examined(status: list[str], before: Counts) -> Examination:
    dice = np.random.default_rng(0)
    reference, window = outputs(1000, dice), outputs(len(status), dice)
    place = window.table.column_names.index("status")
    rows = Frame(window.table.set_column(place, "status", pa.array(status, pa.string())))
    return examine(reference, Window(rows, None, before, Rate(float(len(status)), before.total)))


def test_an_outage_is_told_of_by_few_rows() -> None:
    found = examined(["model_failed"] * 300, BUSY)
    assert found.severity == "critical"
    assert "100 % of the predictions fail (model_failed)" in found.words
    assert "300 predictions of the model, 100,000 in as long a time before" in found.words
    assert TOO_FEW in found.words
    assert [tier.severity for tier in found.tiers] == ["critical", "unknown", "unknown"]


def test_a_standstill_is_told_of_without_any_row() -> None:
    found = examined([], BUSY)
    assert found.severity == "warning"
    assert "0 predictions of the model, 100,000 in as long a time before" in found.words


@pytest.mark.parametrize("failed", [0, 1])
def test_few_rows_that_are_whole_are_not_enough(failed: int) -> None:
    found = examined(["model_failed"] * failed + ["ok"] * (300 - failed), Counts({"ok": 300.0}, 300))
    assert [tier.severity for tier in found.tiers] == ["unknown"] * 3
    assert found.severity == "unknown"
    assert TOO_FEW in found.words


def test_few_answers_among_many_rows_are_not_called_good() -> None:
    found = examined(["ok"] * 400 + ["model_failed"] * 200, Counts({"ok": 400.0, "model_failed": 200.0}, 600))
    assert found.tiers[0].severity == "ok"
    assert found.severity == "unknown"
    assert "400 predictions were answered" in found.words
