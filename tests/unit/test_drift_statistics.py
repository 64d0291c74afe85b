"""The drift job's arithmetic, and its numbers against Evidently's."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.drift.blocks import blocks_of, design_effect
from jobs.drift.change import benjamini_hochberg, compare, judge_change
from jobs.drift.distances import cut, effects, resampled_effects
from jobs.drift.examination import Window, examine
from jobs.drift.frame import Frame, comparable
from jobs.drift.sampling import HourlySample
from jobs.drift.validity import LEAST_ROWS, Counts
from models.drift_report import Tier
from tests.drift_frames import odd_frames, outputs

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-drift" / "bin" / "python"

AGAINST_EVIDENTLY = """
import json
from jobs.drift.change import our_own
from jobs.drift.evidently_report import measure
from jobs.drift.frame import comparable
from tests.drift_frames import odd_frames
reference, current = odd_frames()
columns = comparable(reference, current)
print(json.dumps([our_own(columns), measure(columns, reference, current)]))
"""


def tier(reference: Frame, window: Window, name: str) -> Tier:
    return next(each for each in examine(reference, window).tiers if each.name == name)


def test_the_effects_are_those_of_evidently() -> None:
    done = subprocess.run(
        [str(PYTHON), "-c", AGAINST_EVIDENTLY],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ours, evidently = json.loads(done.stdout.splitlines()[-1])
    assert set(ours) == set(evidently)
    assert len(ours) == 7
    for column, methods in ours.items():
        for method, value in methods.items():
            assert value == pytest.approx(evidently[column][method], rel=1e-9, abs=1e-12), (column, method)
        assert {"ks", "chisquare"} & set(evidently[column])


def test_a_resample_has_the_effects_of_its_rows() -> None:
    reference, current = odd_frames()
    dice = np.random.default_rng(1)
    for column in comparable(reference, current):
        cells = cut(column)
        rows = dice.integers(len(column.reference), size=2000)
        drawn = np.bincount(rows, minlength=len(column.reference)).astype(np.float64)[None]
        whole = np.ones_like(drawn)
        found = resampled_effects(cells, whole, drawn)
        again = type(column)(column.name, column.is_numeric, column.reference, column.reference[rows], rows)
        if column.is_numeric and len(np.unique(column.reference)) > 20:
            assert found["wasserstein"][0] == pytest.approx(effects(again, cut(again))["wasserstein"], rel=0.05)
        else:
            assert found["psi"][0] >= 0
        assert found["jensenshannon"][0] < 0.1


@pytest.mark.parametrize("burst", [5, 20, 50])
def test_bursts_count_as_what_they_tell(burst: int) -> None:
    window = outputs(4000, np.random.default_rng(2), burst=burst)
    (column,) = [each for each in comparable(window, window) if each.name == "confidence"]
    assert 0.8 * burst <= design_effect(column, blocks_of(window)) <= 1.7 * burst  # rather too large than too small
    unrelated = outputs(4000, np.random.default_rng(3))
    (column,) = [each for each in comparable(unrelated, unrelated) if each.name == "confidence"]
    assert design_effect(column, blocks_of(unrelated)) < 1.6


@pytest.mark.parametrize("burst", [1, 20])
def test_no_drift_is_no_alarm_and_a_shift_is_one(burst: int) -> None:
    said = {0.0: [], 1.5: []}  # type: dict[float, list[str]]
    for seed in range(15):
        dice = np.random.default_rng([4, seed])
        reference = Frame(outputs(1500, dice).table.drop_columns(["time", "key_id"]))
        for shift, severities in said.items():
            window = outputs(1500, dice, shift, burst)
            between = compare(reference, window, blocks_of(reference), blocks_of(window))
            severities.append(judge_change(between).tier.severity)
    assert said[0.0].count("ok") >= 14
    assert said[1.5].count("critical") >= 14


def test_few_rows_are_not_judged() -> None:
    dice = np.random.default_rng(5)
    found = examine(outputs(1000, dice), Window(outputs(300, dice, shift=5)))
    assert found.severity == "unknown"
    assert f"300 predictions, at least {LEAST_ROWS} are needed" in found.words


def test_errors_and_holes_are_invalid() -> None:
    dice = np.random.default_rng(6)
    reference, window = outputs(1000, dice), outputs(2000, dice)
    status = ["invalid_image" if row % 5 == 0 else "ok" for row in range(2000)]
    table = window.table.set_column(window.table.column_names.index("status"), "status", pa.array(status))
    brightness = window.numbers("image_brightness").copy()
    brightness[1::4] = np.nan
    spoilt = Frame(table.set_column(table.column_names.index("image_brightness"), "image_brightness", [brightness]))
    found = tier(reference, Window(spoilt, before=Counts({"ok": 1000.0}, 1000)), "validity")
    assert found.severity == "critical"
    assert "20 % of the inputs cannot be read (invalid_image)" in found.words
    assert "of brightness is missing, NaN or infinite" in found.words


def test_unseen_sizes_and_formats_are_told() -> None:
    dice = np.random.default_rng(7)

    def sized(frame: Frame, side: float, form: str) -> Frame:
        table = frame.table
        for name, value in (("image_width", side), ("image_height", side), ("image_format", form)):
            table = table.append_column(name, pa.array([value] * frame.rows))
        return Frame(table)

    found = tier(sized(outputs(600, dice), 64, "PNG"), Window(sized(outputs(600, dice), 96, "WEBP")), "validity")
    assert found.severity == "critical"
    assert "96 x 96" in found.words
    assert "WEBP" in found.words


def test_feedback_tells_of_concept_drift() -> None:
    dice = np.random.default_rng(8)
    reference, window = outputs(2000, dice), outputs(2000, dice)
    assert tier(reference, Window(window, labelled=window), "harm").severity == "ok"
    wrong = pa.array(["no"] * 2000)
    spoilt = Frame(window.table.set_column(window.table.column_names.index("true_label"), "true_label", wrong))
    found = tier(reference, Window(window, labelled=spoilt), "harm")
    assert found.severity == "critical"
    assert found.findings[0].current == 0


def test_without_labels_it_is_estimated_or_withheld() -> None:
    dice = np.random.default_rng(9)
    reference = outputs(2000, dice)
    inside = tier(reference, Window(Frame(outputs(2000, dice).table.drop_columns(["true_label"]))), "harm")
    assert inside.severity == "ok"
    assert "estimated" in inside.words
    outside = tier(reference, Window(Frame(outputs(2000, dice, shift=6).table.drop_columns(["true_label"]))), "harm")
    assert outside.severity == "unknown"
    assert "cannot be told without labels" in outside.words


def test_p_values_are_corrected_as_published() -> None:
    # Benjamini and Hochberg (1995), section 3.2: four of fifteen are rejected at 5 %.
    raw = (0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528)
    p_values = dict(enumerate((*raw, 0.7590, 1.0)))
    corrected = benjamini_hochberg({str(key): value for key, value in p_values.items()})
    assert sum(each <= 0.05 for each in corrected.values()) == 4


def test_a_sample_takes_its_share_of_every_hour_and_weighs_alike() -> None:
    sample = HourlySample(1000, 4)
    for hour, (rows, weight) in enumerate([(8000, 1.0), (2000, 1.0), (1000, 10.0)]):
        times = np.arange(rows) * (3_600_000_000 // rows) + hour * 3_600_000_000
        for part in np.array_split(times, 5):
            weights = pa.array(np.full(len(part), weight, dtype=np.float32))
            sample.add(pa.table({"time": pa.array(part, pa.timestamp("us", tz="UTC")), "weight": weights}))
    found = sample.table()
    assert found is not None
    assert sample.rows == 11_000
    assert sample.predictions == 20_000
    hours = np.bincount(found["time"].cast(pa.int64()).to_numpy() // 3_600_000_000)
    assert hours / len(found) == pytest.approx([0.4, 0.1, 0.5], abs=0.02)
    assert 900 <= len(found) <= 1001
