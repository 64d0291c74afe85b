"""`tiltyard reference`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.drift.__main__ import main
from models.drift_history import NO_REFERENCE
from models.errors import InvalidRequest
from models.store import Store
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, predictions
from tests.tiny import affine, floats, put


@pytest.fixture
def root(store: Store, tmp_path: Path) -> Path:
    """A log of 600 answers of a version without validation rows."""
    put(store, "digits", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    tables = TrafficTables(str(tmp_path / "traffic"))
    tables.predictions("digits").append(predictions(600))
    tables.feedback().append(feedback(30, label="1"))
    return tmp_path / "traffic"


def tiltyard(store: Store, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["reference", *arguments, "--store", str(store.root)], catch_exceptions=False)
    return " ".join(done.stdout.split())


def test_it_is_shown_frozen_and_reset(store: Store, root: Path) -> None:
    assert "digits version 1 has no reference" in tiltyard(store, "digits")
    frozen = tiltyard(store, "digits@1", "--from-traffic", "7d", "--root", str(root))
    assert "600 rows of its traffic from 2026-11-01 12:00 to 2026-11-01 12:09 UTC, frozen" in frozen
    assert "The right class is known of 30." in frozen
    assert tiltyard(store, "digits") == frozen
    assert "has no reference" in tiltyard(store, "digits", "--reset")
    assert "Nothing was frozen." in tiltyard(store, "digits", "--reset")


def test_a_drift_run_without_one_ends_with_a_status_of_its_own(store: Store, root: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main("digits", root=str(root), version=1, store=store.root)
    assert ended.value.code == NO_REFERENCE


def test_it_is_told_as_json(store: Store, root: Path) -> None:
    assert json.loads(tiltyard(store, "digits", "--json"))["reference"] is None
    command = ("digits", "--from-traffic", "24h", "--since", "2026-11-01", "--root", str(root), "--json")
    told = json.loads(tiltyard(store, *command))["reference"]
    assert (told["rows"], told["source"], told["drawn_from"]) == (600, "traffic", 600)
    assert told["since"] == NOON.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--from-traffic", "7d", "--reset"], "contradict each other", id="both"),
        pytest.param(["--since", "7d"], "--since is the beginning of --from-traffic", id="only since"),
        pytest.param(["--from-traffic", "a week"], "--from-traffic 'a week': expected a number and", id="no span"),
        pytest.param(["--from-traffic", "0d"], "expected more than nothing", id="nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(store: Store, root: Path, options: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        tiltyard(store, "digits", *options, "--root", str(root))
