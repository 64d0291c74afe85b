import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.labelled import labelled
from jobs.quality import quality
from jobs.sampling import FLOOR, By, chances, draw, sizes
from models.errors import Conflict, ModelNotFound, NotFound
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, inputs, predictions, told

SINCE = ("--since", NOON.isoformat())


def margins(count: int) -> list[float]:
    return [number / count for number in range(count)]


@pytest.fixture
def tables(tmp_path: Path) -> TrafficTables:
    """500 answers with rising margins, every eighth wrong; a shadow was asked of 100; 50 are labelled."""
    made = TrafficTables(str(tmp_path / "traffic"))
    said = ["1" if number % 8 == 0 else "7" for number in range(500)]
    made.predictions("digits").append(predictions(500, label=said, margin=margins(500), confidence=margins(500)))
    shadows = predictions(100, writer="s", version=2, variant="shadow", request_id=[f"w-{n}" for n in range(100)])
    made.predictions("digits").append(shadows)
    made.predictions("digits").append(predictions(5, first=900, status="model_failed", label=None))
    made.feedback().append(feedback(50).drop_columns(["item", "weight", "model"]))
    return made


def run(tables: TrafficTables, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["label-sample", "digits", *SINCE, *arguments, "--root", tables.root])


def drawn(tables: TrafficTables, *arguments: str) -> list[dict[str, str]]:
    done = run(tables, *arguments)
    assert done.exception is None, done.exception
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_the_file_has_what_is_needed_to_label(tables: TrafficTables) -> None:
    rows = drawn(tables, "-n", "30", "--seed", "1")
    assert len({row["request_id"] for row in rows}) == 30
    columns = ["request_id", "item", "model", "time", "version", "label", "confidence", "weight", "true_label"]
    assert list(rows[0]) == columns
    for row in rows:
        number = int(row["request_id"].removeprefix("w-"))
        assert 50 <= number < 500
        assert float(row["weight"]) == pytest.approx(450 / 30)
        assert (row["item"], row["model"], row["version"], row["true_label"]) == ("0", "digits", "1", "")
        assert row["time"] == (NOON + timedelta(seconds=number)).isoformat()
        assert float(row["confidence"]) == pytest.approx(number / 500)
        assert row["label"] == ("1" if number % 8 == 0 else "7")


def test_what_is_drawn_is_what_no_label_counts_for(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path / "traffic"))
    of_two = predictions(2, request_id="r", item=[0, 1], status=["ok", "invalid_image"], label=["7", None])
    tables.predictions("digits").append(of_two)
    tables.feedback().append(told(request_id="r"))
    assert labelled(tables, "digits").num_rows == 0, "it does not say which of the two images it means"
    assert [(row["request_id"], row["item"]) for row in drawn(tables)] == [("r", "0")]


def test_the_seed_decides(tables: TrafficTables) -> None:
    assert drawn(tables, "-n", "20", "--seed", "1") == drawn(tables, "-n", "20", "--seed", "1")
    assert drawn(tables, "-n", "20", "--seed", "1") != drawn(tables, "-n", "20", "--seed", "2")


def test_uncertain_ones_come_more_often_and_count_less(tables: TrafficTables) -> None:
    rows = drawn(tables, "-n", "100", "--by", "uncertainty", "--seed", "1")
    assert len(rows) == 100
    margin = np.array([int(row["request_id"].removeprefix("w-")) / 500 for row in rows])
    weight = np.array([float(row["weight"]) for row in rows])
    assert margin.mean() < 0.45
    np.testing.assert_allclose(weight * (FLOOR + 1 - margin), weight[0] * (FLOOR + 1 - margin[0]), rtol=1e-4)


def test_all_are_drawn_where_there_are_no_more(tables: TrafficTables) -> None:
    rows = drawn(tables, "-n", "1000")
    assert len(rows) == 450
    assert {row["weight"] for row in rows} == {"1"}


def test_a_shadow_is_drawn_from_where_it_is_asked_for(tables: TrafficTables) -> None:
    rows = drawn(tables, "-n", "1000", "--version", "2")
    assert len(rows) == 50
    assert {row["version"] for row in rows} == {"2"}


@pytest.mark.parametrize("by", ["random", "uncertainty"])
def test_what_is_drawn_and_labelled_tells_of_all(tables: TrafficTables, tmp_path: Path, by: str) -> None:
    path = tmp_path / "sample.csv"
    assert run(tables, "-n", "80", "--by", by, "--seed", "4", "-o", str(path)).exception is None
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "true_label": "7"} for row in rows)
    done = CliRunner().invoke(app, ["feedback", "import", str(path), "--root", tables.root, "--json"])
    assert json.loads(done.stdout)["unknown"] == 0
    of = quality(tables, "digits", NOON, NOON + timedelta(days=1)).variants[0]
    assert (of.labels, of.sampled) == (130, 80)
    assert of.weight == pytest.approx(500, rel=0.15)
    assert of.accuracy is not None
    assert of.accuracy.low < 1 - 63 / 500 < of.accuracy.high


@pytest.mark.parametrize("by", ["random", "uncertainty"])
def test_estimates_are_right_on_average(by: By) -> None:
    random = np.random.default_rng(0)
    margin = random.beta(8, 1, 2000)
    right = random.random(2000) > (1 - margin)
    chance = chances(sizes(margin, by), 100)
    assert chance.sum() == pytest.approx(100)
    estimates, times = [], np.zeros(2000)
    for _ in range(1500):
        chosen = draw(chance, random)
        assert len(set(chosen.tolist())) == 100
        times[chosen] += 1
        estimates.append(np.average(right[chosen], weights=1 / chance[chosen]))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - right.mean()) < 4 * error
    np.testing.assert_allclose(times / 1500, chance, atol=5 * np.sqrt(chance.max() / 1500))


def test_uncertainty_says_more_with_as_many_labels() -> None:
    random = np.random.default_rng(0)
    margin = random.beta(8, 1, 5000)
    right = random.random(5000) > (1 - margin)
    spread = {}
    for by in ("random", "uncertainty"):
        chance = chances(sizes(margin, by), 200)
        draws = [draw(chance, random) for _ in range(600)]
        spread[by] = np.std([np.average(right[chosen], weights=1 / chance[chosen]) for chosen in draws])
    assert spread["uncertainty"] < 0.95 * spread["random"]


def test_no_chance_is_above_1() -> None:
    size = np.array([1000.0, 500.0, *np.ones(98)])
    chance = chances(size, 10)
    assert chance[:2].tolist() == [1, 1]
    assert chance.sum() == pytest.approx(10)
    assert all({0, 1} <= set(draw(chance, np.random.default_rng(seed)).tolist()) for seed in range(20))
    assert chances(np.ones(3), 5).tolist() == [1, 1, 1]


def test_a_margin_that_is_not_known_is_uncertain() -> None:
    assert sizes(np.array([np.nan, 0.0, 1.0]), "uncertainty").tolist() == pytest.approx([1 + FLOOR, 1 + FLOOR, FLOOR])


def test_a_request_id_is_no_formula(tmp_path: Path) -> None:
    tables = TrafficTables(str(tmp_path / "traffic"))
    tables.predictions("digits").append(predictions(1, request_id="=1+1"))
    rows = drawn(tables)
    assert rows[0]["request_id"] == "'=1+1"
    path = tmp_path / "sample.csv"
    path.write_text(f"request_id,weight,true_label\n{rows[0]['request_id']},1,7\n")
    done = CliRunner().invoke(app, ["feedback", "import", str(path), "--root", tables.root, "--json"])
    assert json.loads(done.stdout)["unknown"] == 0


def test_inputs_that_were_kept_are_written_beside(tables: TrafficTables, tmp_path: Path) -> None:
    tables.inputs("digits").append(content(inputs(90)))
    directory = tmp_path / "inputs"
    rows = drawn(tables, "-n", "10", "--inputs", str(directory), "--seed", "1")
    assert [Path(row["input"]).name for row in rows] == [f"{number:04}.png" for number in range(1, 11)]
    for row in rows:
        assert Path(row["input"]).read_bytes() == row["request_id"].encode()
        # 40 of the 450 unlabelled ones were kept: each drawn one stands for its share of all.
        assert float(row["weight"]) == pytest.approx(450 / 10)
    done = run(tables, "-n", "10", "--inputs", str(directory))
    assert type(done.exception) is Conflict


def content(rows: pa.Table) -> pa.Table:
    values = pa.array([name.encode() for name in rows["request_id"].to_pylist()])
    return rows.set_column(rows.column_names.index("content"), rows.schema.field("content"), values)


def test_without_kept_inputs_there_is_nothing_to_draw(tables: TrafficTables, tmp_path: Path) -> None:
    done = run(tables, "--inputs", str(tmp_path / "inputs"))
    assert type(done.exception) is NotFound
    assert "whose input was kept" in str(done.exception)


def test_a_file_that_may_be_filled_in_is_not_overwritten(tables: TrafficTables, tmp_path: Path) -> None:
    path = tmp_path / "sample.csv"
    path.write_text("mine")
    assert type(run(tables, "-o", str(path)).exception) is Conflict
    assert path.read_text() == "mine"


def test_json(tables: TrafficTables, tmp_path: Path) -> None:
    done = run(tables, "-n", "5", "--seed", "9", "-o", str(tmp_path / "s.csv"), "--json")
    expected: dict[str, Any] = {"model": "digits", "drawn": 5, "unlabelled": 450, "by": "random", "seed": 9}
    assert json.loads(done.stdout) == {**expected, "file": str(tmp_path / "s.csv")}
    assert len(json.loads(run(tables, "-n", "5", "--json").stdout)["rows"]) == 5


def test_what_there_is_not(tables: TrafficTables) -> None:
    assert type(run(tables, "--since", "1s").exception) is NotFound
    missing = CliRunner().invoke(app, ["label-sample", "cats", "--root", tables.root])
    assert type(missing.exception) is ModelNotFound
