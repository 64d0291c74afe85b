"""What a window is compared with: the traffic before it, as the log tells of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.drift.job import Question, run
from jobs.drift.window import Span, rate_of
from jobs.frozen_reference import freeze
from models.drift_report import DriftReport
from models.store import Store
from models.traffic_tables import TrafficTables
from tests.records import NOON, predictions
from tests.tiny import affine, floats, put

HOUR = timedelta(hours=1)
WINDOW = Span(NOON, NOON + HOUR)


@pytest.fixture
def tables(tmp_path: Path) -> TrafficTables:
    return TrafficTables(str(tmp_path / "traffic"))


def log(tables: TrafficTables, count: int, time: datetime, **columns: Any) -> None:
    tables.predictions("digits").append(predictions(count, time=time, writer=f"{time}{columns}", **columns))


def test_the_rate_is_that_of_the_model_whichever_version_answers(tables: TrafficTables) -> None:
    log(tables, 100, NOON - HOUR, version=1)
    log(tables, 10, NOON - HOUR / 2, version=2, variant="challenger", weight=2.0)
    log(tables, 100, NOON, version=2)
    log(tables, 900, NOON, version=3, variant="shadow")
    rate = rate_of(tables.known("digits"), WINDOW)
    assert rate is not None
    assert (rate.now, rate.before) == (100, 120)


def test_a_log_that_does_not_reach_back_tells_no_rate(tables: TrafficTables) -> None:
    log(tables, 10, NOON - HOUR / 10)
    log(tables, 900, NOON)
    assert rate_of(tables.known("digits"), WINDOW) is None


@pytest.mark.parametrize("reach", [300, timedelta(minutes=20)])
def test_an_outage_is_held_against_what_was_before(
    store: Store, tables: TrafficTables, tmp_path: Path, reach: int | timedelta
) -> None:
    now = datetime.now(UTC)
    put(store, "digits", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    log(tables, 2000, now - 2 * HOUR)
    log(tables, 1000, now - timedelta(minutes=40), status="model_failed", label=None, confidence=None)
    freeze(store, tables, "digits", 1, HOUR)
    log(tables, 300, now - timedelta(minutes=10), status="model_failed", label=None, confidence=None)
    found, directory = run(Question("digits", 1, reach), tables, store, tmp_path / "out", lambda _: None)
    errors = next(each for each in found.tiers[0].findings if each.column == "errors")
    assert errors.reference == 1.0  # those just before failed as well
    assert errors.severity == "ok"
    assert {each.column for each in found.tiers[0].findings} == {"decode failures", "errors"} | (
        {"rate"} if isinstance(reach, timedelta) else set()
    )
    assert DriftReport.model_validate_json((directory / "report.json").read_text()) == found
