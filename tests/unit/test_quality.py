import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.estimates import share
from jobs.labelled import labelled
from jobs.quality import By, Quality, VariantQuality, quality
from models.errors import InvalidRequest, ModelNotFound
from models.intervals import wilson
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, predictions

ROWS = 4000
CLASSES = ["0", "1", "2", "9", "10", "<b>"]
UNTIL = NOON + timedelta(days=30)


def labels(requests: list[str], truth: list[str], weight: list[float | None] | None = None) -> pa.Table:
    table = feedback(len(requests), time=NOON + timedelta(days=20)).drop_columns(["label", "request_id", "weight"])
    table = table.append_column("label", pa.array(truth)).append_column("request_id", pa.array(requests))
    return table.append_column("weight", pa.array(weight or [None] * len(requests), pa.float64()))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> TrafficTables:
    """Two weeks of a champion and a challenger; half is labelled, some of it drawn, and what is logged is not all."""
    made = TrafficTables(str(tmp_path_factory.mktemp("traffic")))
    random = np.random.default_rng(5)
    truth = random.choice(CLASSES, ROWS, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.05])
    for version, variant, accuracy, weight in ((1, "champion", 0.8, 1.0), (2, "challenger", 0.9, 4.0)):
        said = np.where(random.random(ROWS) < accuracy, truth, random.choice(CLASSES, ROWS))
        rows = predictions(
            ROWS,
            writer=f"v{version}",
            request_id=[f"r{number}" for number in range(ROWS)],
            label=said.tolist(),
            confidence=random.uniform(0.15, 1, ROWS).tolist(),
            version=version,
            variant=variant,
            weight=weight,
        )
        times = [NOON + timedelta(minutes=5 * number) for number in range(ROWS)]
        rows = rows.set_column(3, "time", pa.array(times, pa.timestamp("us", "UTC")))
        rows = rows.set_column(4, "day", pa.array([time.date() for time in times]))
        made.predictions("digits").append(rows)
    chosen = np.flatnonzero(random.random(ROWS) < 0.5)
    weights = [float(weight) if weight > 1 else None for weight in random.uniform(0, 9, len(chosen))]
    made.feedback().append(labels([f"r{number}" for number in chosen], truth[chosen].tolist(), weights))
    return made


@pytest.fixture(scope="module")
def found(tables: TrafficTables) -> Quality:
    return quality(tables, "digits", NOON, UNTIL)


@pytest.fixture(scope="module", params=[0, 1], ids=["champion", "challenger"])
def both(request: pytest.FixtureRequest, found: Quality, tables: TrafficTables) -> tuple[VariantQuality, pa.Table]:
    """A version's quality, and the join that it is of."""
    of = found.variants[request.param]
    rows = labelled(tables, "digits", NOON, UNTIL)
    return of, rows.filter(pa.compute.equal(rows["version"], of.version))


def arrays(rows: pa.Table) -> dict[str, Any]:
    weight = rows["weight"].to_numpy()
    return {"y_true": rows["true_label"].to_pylist(), "y_pred": rows["label"].to_pylist(), "sample_weight": weight}


def test_the_variants_are_told_apart(found: Quality) -> None:
    assert [(each.version, each.variant, each.predictions) for each in found.variants] == [
        (1, "champion", ROWS),
        (2, "challenger", 4 * ROWS),
    ]
    assert all(1800 < each.labels < 2200 and each.sampled > 1500 for each in found.variants)


def test_accuracy_is_scikit_learns(both: tuple[VariantQuality, pa.Table]) -> None:
    of, rows = both
    assert of.accuracy is not None
    assert of.accuracy.value == pytest.approx(accuracy_score(**arrays(rows)), abs=1e-12)
    assert of.accuracy.low < of.accuracy.value < of.accuracy.high


def test_confusion_is_scikit_learns(both: tuple[VariantQuality, pa.Table]) -> None:
    of, rows = both
    names = [each.name for each in of.classes]
    assert names == ["0", "1", "2", "9", "10", "<b>"]
    mine = np.zeros((len(names), len(names)))
    for each in of.confusion:
        mine[names.index(each.true), names.index(each.said)] = each.weight
    np.testing.assert_allclose(mine, confusion_matrix(**arrays(rows), labels=names), rtol=1e-12)
    assert sum(each.labels for each in of.confusion) == of.labels == rows.num_rows


def test_precision_and_recall_are_scikit_learns(both: tuple[VariantQuality, pa.Table]) -> None:
    of, rows = both
    names = [each.name for each in of.classes]
    theirs = precision_recall_fscore_support(**arrays(rows), labels=names, zero_division=np.nan)
    mine = [[each.precision, each.recall, each.f1, each.weight] for each in of.classes]
    np.testing.assert_allclose(np.array(mine, float).T, np.array(theirs), rtol=1e-12)


def test_the_calibration_error_is_that_of_its_definition(both: tuple[VariantQuality, pa.Table]) -> None:
    of, rows = both
    assert of.calibration is not None
    confidence = rows["confidence"].cast(pa.float64()).to_numpy()
    right = np.array(rows["label"].to_pylist()) == np.array(rows["true_label"].to_pylist())
    weight = rows["weight"].to_numpy()
    error = 0.0
    for low in np.arange(10) / 10:
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            gap = np.average(right[inside], weights=weight[inside]) - np.average(
                confidence[inside], weights=weight[inside]
            )
            error += weight[inside].sum() / weight.sum() * abs(gap)
    assert of.calibration.ece == pytest.approx(error, abs=1e-9)
    assert [each.low for each in of.calibration.bins] == pytest.approx([number / 10 for number in range(1, 10)])


def test_equal_weights_have_wilsons_interval() -> None:
    right = np.arange(50) < 45
    for weight in (1.0, 7.0):
        found = share(right, np.full(50, weight))
        assert found is not None
        assert (found.low, found.high) == pytest.approx(wilson(45, 50))
    assert share(np.zeros(0, bool), np.zeros(0)) is None


def test_unequal_weights_have_a_wider_interval() -> None:
    right = np.arange(100) % 10 != 0
    heavy = np.where(np.arange(100) < 10, 100.0, 1.0)
    found, equal = share(right, heavy), share(right, np.ones(100))
    assert found is not None
    assert equal is not None
    assert found.high - found.low > 2 * (equal.high - equal.low)


def test_a_calibrated_model_shows_the_error_of_chance() -> None:
    from jobs.confusion import Answers
    from jobs.reliability import calibration

    random = np.random.default_rng(0)
    errors, promised = [], 0.0
    for _ in range(200):
        confidence = random.uniform(0.5, 1, 300)
        right = random.random(300) < confidence
        found = calibration(Answers(("a", "b"), np.zeros(300, int), 1 - right, confidence, np.ones(300)))
        assert found is not None
        errors.append(found.ece)
        promised = found.by_chance
    assert np.mean(errors) == pytest.approx(promised, rel=0.1)


@pytest.mark.parametrize(
    ("by", "starts"),
    [
        ("day", [datetime(2026, 11, 1 + day, tzinfo=UTC) for day in range(15)]),
        ("week", [datetime(2026, 10, 26, tzinfo=UTC) + timedelta(weeks=week) for week in range(3)]),
    ],
)
def test_periods_begin_where_the_calendar_says(tables: TrafficTables, by: By, starts: list[datetime]) -> None:
    of = quality(tables, "digits", NOON, UNTIL, by).variants[0]
    assert [period.start for period in of.periods] == starts
    assert sum(period.labels for period in of.periods) == of.labels
    assert {start.weekday() for start in starts} == ({0} if by == "week" else set(range(7)))


def test_hours(tables: TrafficTables) -> None:
    of = quality(tables, "digits", NOON, NOON + timedelta(hours=3), "hour").variants[0]
    assert [period.start for period in of.periods] == [NOON + timedelta(hours=hour) for hour in range(3)]


def test_drawn_labels_make_good_for_feedback_that_prefers_errors(tmp_path: Path) -> None:
    """9 of 10 answers are right; users report every error and nothing else, and a tenth of the others is drawn."""
    tables = TrafficTables(str(tmp_path))
    tables.predictions("digits").append(
        predictions(1000, label=["7" if number % 10 else "1" for number in range(1000)])
    )
    wrong = [f"w-{number}" for number in range(0, 1000, 10)]
    tables.feedback().append(labels(wrong, ["7"] * 100))
    of = quality(tables, "digits", NOON, UNTIL).variants[0]
    assert of.accuracy is not None
    assert of.accuracy.value == 0
    drawn = [f"w-{number}" for number in range(1, 1000, 10)]
    tables.feedback().append(labels(drawn, ["7"] * 100, [9.0] * 100))
    of = quality(tables, "digits", NOON, UNTIL).variants[0]
    assert of.accuracy is not None
    assert of.accuracy.value == pytest.approx(0.9)
    assert (of.labels, of.sampled, of.weight) == (200, 100, 1000)


def run(tables: TrafficTables, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["quality", *arguments, "--root", tables.root])


def test_the_terminal_shows_it(tables: TrafficTables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = run(tables, "digits", "--since", NOON.isoformat())
    assert done.exception is None, done.exception
    shown = " ".join(done.stdout.split())
    for words in (
        "Version 1, champion, is right in",
        "Calibration error",
        "Accuracy by day",
        "Classes of version 2",
        "█",
    ):
        assert words in shown


def test_json_is_one_object(tables: TrafficTables) -> None:
    done = run(tables, "digits", "--since", NOON.isoformat(), "--json")
    assert done.exception is None, done.exception
    read = json.loads(done.stdout)
    assert read["model"] == "digits"
    assert read["variants"][0]["accuracy"].keys() == {"value", "low", "high"}
    assert read["variants"][0]["periods"][0]["start"] == "2026-11-01T00:00:00+00:00"


def test_without_labels_it_says_what_to_do(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    tables.predictions("digits").append(predictions(3))
    done = run(tables, "digits", "--since", NOON.isoformat())
    assert "tiltyard label-sample" in " ".join(done.stdout.split())
    assert "answered nothing" in " ".join(run(tables, "digits", "--since", "1s").stdout.split())


def test_what_cannot_be_told_is_a_typed_error(tables: TrafficTables) -> None:
    assert type(run(tables, "cats").exception) is ModelNotFound
    done = run(tables, "digits", "--since", "yesterday")
    assert type(done.exception) is InvalidRequest
    assert "--since 'yesterday'" in str(done.exception)
