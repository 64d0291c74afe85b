import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.labelled import join, labelled
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, predictions, told

ROOT = Path(__file__).parents[2]


def truths(predicted: pa.Table, *labels: pa.Table) -> list[tuple[Any, ...]]:
    found = join(predicted, pa.concat_tables(labels))
    rows = found.select(["request_id", "item", "version", "true_label", "weight"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


LATER = NOON + timedelta(hours=5)


def test_a_label_finds_its_prediction() -> None:
    found = join(predictions(3, confidence=[0.1, 0.2, 0.3]), told(request_id="w-1", label="8"))
    assert found.num_rows == 1
    row = found.to_pylist()[0]
    assert row["confidence"] == pytest.approx(0.2)
    assert {name: row[name] for name in ("request_id", "label", "true_label", "weight", "is_sampled")} == {
        "request_id": "w-1",
        "label": "7",
        "true_label": "8",
        "weight": 1.0,
        "is_sampled": False,
    }
    assert row["labelled_at"] == NOON + timedelta(minutes=1)


def test_the_newest_label_counts_whatever_the_order_it_is_read_in() -> None:
    labels = [told(label="8", time=LATER), told(label="7"), told(label="1", time=NOON + timedelta(minutes=2))]
    for order in (labels, labels[::-1]):
        assert truths(predictions(1), *order) == [("w-0", 0, 1, "8", 1.0)]


def test_of_one_moment_the_later_line_counts() -> None:
    assert truths(predictions(1), told(label="8", sequence=1), told(label="7", sequence=0)) == [("w-0", 0, 1, "8", 1.0)]


def test_a_label_without_an_item_is_not_guessed_of_a_request_of_many() -> None:
    many = predictions(2, request_id="r", item=[0, 1])
    assert truths(many, told(request_id="r")) == []
    assert truths(many, told(request_id="r"), told(request_id="r", item=1, label="8")) == [("r", 1, 1, "8", 1.0)]


def test_a_label_of_item_0_and_one_of_the_request_are_of_the_same() -> None:
    assert truths(predictions(1), told(item=0, label="8"), told(label="9", time=LATER)) == [("w-0", 0, 1, "9", 1.0)]
    assert truths(predictions(1), told(item=0, label="8", time=LATER), told(label="9")) == [("w-0", 0, 1, "8", 1.0)]


def test_every_version_that_predicted_is_labelled() -> None:
    both = predictions(2, request_id="r", version=[1, 2], variant=["champion", "shadow"])
    assert truths(both, told(request_id="r")) == [("r", 0, 1, "7", 1.0), ("r", 0, 2, "7", 1.0)]


def test_of_a_request_id_that_came_twice_the_newest_prediction_counts() -> None:
    twice = predictions(2, request_id="r", label=["3", "4"])
    assert join(twice, told(request_id="r"))["label"].to_pylist() == ["4"]


def test_what_failed_or_has_no_classes_is_no_prediction() -> None:
    rows = predictions(2, request_id=["a", "b"], status=["model_failed", "ok"], label=[None, None])
    assert truths(rows, told(request_id="a"), told(request_id="b")) == []


def test_weights_multiply_and_stay_when_the_label_is_corrected() -> None:
    sampled = told(weight=50.0, item=0)
    assert truths(predictions(1, weight=4.0), sampled) == [("w-0", 0, 1, "7", 200.0)]
    corrected = (sampled, told(label="8", time=LATER))
    assert truths(predictions(1, weight=4.0), *corrected) == [("w-0", 0, 1, "8", 200.0)]
    assert join(predictions(1), pa.concat_tables(corrected))["is_sampled"].to_pylist() == [True]


def test_the_tables_are_joined_by_the_time_of_the_prediction(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    tables.predictions("digits").append(predictions(3))
    tables.predictions("digits").append(predictions(3, first=3, time=NOON + timedelta(days=2)))
    # Late ones, and one that nobody asked.
    for request, label in (("w-0", "7"), ("w-4", "8"), ("nobody", "1")):
        tables.feedback().append(told(request_id=request, label=label, time=NOON + timedelta(days=30)))
    assert sorted(labelled(tables, "digits")["true_label"].to_pylist()) == ["7", "8"]
    assert labelled(tables, "digits", since=NOON + timedelta(days=1))["true_label"].to_pylist() == ["8"]
    assert labelled(tables, "digits", until=NOON + timedelta(days=1))["true_label"].to_pylist() == ["7"]


def test_a_label_that_names_a_model_counts_for_no_other(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    for model in ("digits", "cats"):
        tables.predictions(model).append(predictions(3, model=model))
    for request, label, named in (("w-0", "7", None), ("w-1", "cat", "cats"), ("w-2", "8", "digits")):
        tables.feedback().append(told(request_id=request, label=label, model=named))
    assert sorted(labelled(tables, "digits")["true_label"].to_pylist()) == ["7", "8"]
    assert sorted(labelled(tables, "cats")["true_label"].to_pylist()) == ["7", "cat"]


def test_a_table_without_items_weights_and_models_is_read_and_gets_them(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    tables.predictions("digits").append(predictions(1))
    tables.feedback().append(feedback(1).drop_columns(["item", "weight", "model"]))
    assert labelled(tables, "digits")["true_label"].to_pylist() == ["7"]
    tables.feedback().append(told(label="8", model="digits"))
    tables.feedback().append(told(label="9", model="cats", time=LATER))
    assert labelled(tables, "digits")["true_label"].to_pylist() == ["8"]


def test_more_columns_can_be_asked_for(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    tables.predictions("digits").append(predictions(1))
    tables.feedback().append(told())
    found = labelled(tables, "digits", columns=["probabilities", "image_width"])
    assert found["probabilities"].to_pylist()[0] == pytest.approx([0.9, 0.1])
    assert "image_width" not in found.column_names


def test_nothing_is_labelled_while_there_is_nothing(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path))
    assert labelled(tables, "digits").num_rows == 0
    tables.predictions("digits").append(predictions(1))
    assert labelled(tables, "digits").num_rows == 0


def test_the_drift_job_can_import_it() -> None:
    code = "import sys, jobs.labelled; assert not {'pandas', 'ray', 'fastapi', 'typer'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
