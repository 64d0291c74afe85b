"""`tiltyard traffic` as it is typed, on real tables and a real spool."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.cli.traffic_place import up_to_now
from jobs.traffic_compact import MAX_FILES, MAX_FILES_TODAY, compact, tidy
from jobs.traffic_printing import _REASONS, size
from models.errors import TiltyardError
from models.locking import locked
from models.traffic_ledger import REASONS
from models.traffic_settings import TrafficLogSettings
from models.traffic_spool import SpoolWriter, Stream
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, inputs, predictions

DAY = timedelta(days=1)


class Place:
    """A root with its spool, and the command that is told of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables = TrafficTables(str(path / "traffic"))

    @property
    def digits(self) -> TrafficTable:
        return self.tables.predictions("digits")

    def run(self, *arguments: str) -> str:
        """What it prints."""
        with contextlib.chdir(self.path):
            done = CliRunner().invoke(app, ["traffic", *arguments, "--root", self.tables.root])
        if done.exception is not None:
            raise done.exception
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """The reason."""
        with pytest.raises(TiltyardError) as raised:
            self.run(*arguments)
        return raised.value.message

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def writer(place: Place) -> Iterator[SpoolWriter]:
    made = SpoolWriter(Path(place.tables.root, ".spool"))
    yield made
    made.close()
    if made.ledger.path is not None:
        made.ledger.path.unlink(missing_ok=True)


@pytest.mark.parametrize("command", ["show", "export", "append", "compact", "delete"])
def test_help_has_an_example(command: str) -> None:
    done = CliRunner().invoke(app, ["traffic", command, "--help"])
    assert f"tiltyard traffic {'digits' if command == 'show' else command}" in done.stdout


def test_nothing_logged_yet(place: Place) -> None:
    assert "No traffic was logged" in place.run()
    assert "no traffic of model 'cats'" in place.refused("cats")


def test_a_name_shows_all_that_is_known(place: Place, writer: SpoolWriter) -> None:
    place.digits.append(predictions(10, version=[1] * 6 + [2] * 4, variant=["champion"] * 6 + ["challenger"] * 4))
    place.digits.append(predictions(2, first=10, time=NOON + DAY, status="overloaded", weight=2.0, cache_hit=True))
    place.tables.inputs("digits").append(inputs(3))
    slot = writer.ledger.slot("predictions/digits")
    for name, count in (("accepted", 9), ("sampled_out", 5), ("disk", 1)):
        slot.add(name, count)
    writer.write(Stream("predictions", "digits"), predictions(7, first=20))
    told = place.json("digits")["models"][0]
    assert told["model"] == "digits"
    held = told["predictions"]
    assert (held["rows"], held["files"], held["days"], held["most_files_a_day"]) == (12, 2, 2, 1)
    assert datetime.fromisoformat(held["first"]) == NOON
    assert told["inputs"]["rows"] == 3
    assert [(g["version"], g["variant"], g["status"], g["rows"], g["predictions"]) for g in told["groups"]] == [
        (1, "champion", "ok", 6, 6.0),
        (1, "champion", "overloaded", 2, 4.0),
        (2, "challenger", "ok", 4, 4.0),
    ]
    assert (told["spooled"], told["buffered"], told["sampled_out"], told["lost"]) == (7, 1, 5, {"disk": 1})
    shown = place.run("digits")
    for words in ("12 rows", "7 spooled, 1 in memory", "5 by sampling", "the disk failed", "challenger", "overloaded"):
        assert words in shown
    assert "digits" in place.run()


def test_who_reads_the_tables_sees_what_is_spooled(place: Place, writer: SpoolWriter) -> None:
    place.digits.append(predictions(10))
    writer.write(Stream("predictions", "digits"), predictions(7, first=10))
    assert "17 rows written" in place.run("export", "digits", "-o", "all.parquet")
    assert pq.read_metadata(place.path / "all.parquet").num_rows == 17


@pytest.mark.parametrize("reason", ["held", "another's", "odd"])
def test_what_cannot_be_appended_keeps_nobody_from_reading(
    place: Place, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    place.digits.append(predictions(10))
    writer.write(Stream("predictions", "digits"), predictions(7, first=10))
    monkeypatch.setattr("jobs.cli.traffic_place.READER_WAIT_S", 0.0)
    with contextlib.ExitStack() as stack:
        match reason:
            case "held":
                stack.enter_context(locked(writer.spool))
            case "another's":
                monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            case _:
                odd = writer.directory / "nothing known" / "digits"
                odd.mkdir(parents=True)
                (odd / "0000000001.parquet").touch()
        assert "10 rows written" in place.run("export", "digits", "-o", "before.parquet")


def test_what_is_spooled_comes_only_into_its_own_tables(place: Place, writer: SpoolWriter) -> None:
    writer.write(Stream("predictions", "digits"), predictions(7))
    config = place.path / "serve_config.yaml"
    log = {"root": place.tables.root, "spool": str(writer.spool)}
    gateway = {"name": "gateway", "import_path": "deployments.app:gateway", "args": {"traffic_log": log}}
    config.write_text(json.dumps({"applications": [gateway]}))
    other = str(place.path / "other")
    assert up_to_now(other, config) == other
    assert up_to_now("s3://archive/traffic", config) == "s3://archive/traffic"
    assert not Path(other).exists()
    assert len(list(writer.directory.rglob("*.parquet"))) == 1
    assert up_to_now(None, config) == place.tables.root
    assert "7 rows written" in place.run("export", "digits", "-o", "own.parquet")


def test_what_a_killed_router_had_in_memory_is_told_for_ever(place: Place, writer: SpoolWriter) -> None:
    writer.ledger.slot("predictions/digits").add("accepted", 9)
    writer.write(Stream("predictions", "digits"), predictions(7))
    writer.close()
    assert "7 rows appended" in place.run("append")
    assert not writer.directory.exists()
    told = place.json("digits")["models"][0]
    assert (told["predictions"]["rows"], told["spooled"], told["lost"]) == (7, 0, {"kill": 2})
    assert "Nothing is spooled" in place.run("append")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_export(place: Place, suffix: str) -> None:
    embedding = [b"\x01\xff"] * 3
    place.digits.append(predictions(3, embedding=embedding, features={"input_x": pa.array([1.5, None, 2.0])}))
    place.digits.append(predictions(3, first=3, time=NOON + DAY))
    file = place.path / f"out.{suffix}"
    options = ("--since", "2026-11-01", "--until", "2026-11-01T12:00:02")
    names = ["request_id", "label", "probabilities", "embedding", "input_x"]
    told = place.run("export", "digits", *options, "--columns", ",".join(names), "-o", str(file))
    assert "2 rows written" in told
    if suffix == "parquet":
        rows = pq.read_table(file).to_pylist()
        assert [list(row) for row in rows] == [names, names]
        assert rows[0]["embedding"] == embedding[0]
        assert rows[0]["probabilities"] == pytest.approx([0.9, 0.1])
    else:
        with file.open() as opened:
            rows = list(csv.DictReader(opened))
        assert rows[0] == {
            "request_id": "w-0",
            "label": "7",
            "probabilities": "0.9 0.1",
            "embedding": "01ff",
            "input_x": "1.5",
        }
        assert rows[1]["input_x"] == ""
    assert [path.name for path in place.path.glob("*out*")] == [file.name]


def test_export_of_everything_has_every_column(place: Place) -> None:
    place.digits.append(predictions(3))
    assert place.json("export", "digits", "-o", str(place.path / "all.csv"))["rows"] == 3
    with (place.path / "all.csv").open() as opened:
        assert set(next(csv.reader(opened))) == set(place.digits.schema().names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "-o", "x.xlsx"), "ends with .parquet or .csv"),
        (("digits", "-o", "x.csv", "--columns", "label,age"), "no column 'age'; there are: schema_version"),
        (("digits", "-o", "x.csv", "--since", "yesterday"), "'yesterday'"),
        (("digits", "-o", "nowhere/x.csv"), "No such file"),
        (("digits", "-o", "x.csv", "--table", "shadows"), "expected predictions, inputs or feedback"),
        (("cats", "-o", "x.csv"), "no traffic of model 'cats' was logged; there is that of: digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_an_export_that_cannot_be_is_refused(place: Place, arguments: tuple[str, ...], words: str) -> None:
    place.digits.append(predictions(1))
    assert words in place.refused("export", *arguments)
    assert not list(place.path.glob("*x.*"))


def test_compact_leaves_few_files_and_every_row(place: Place) -> None:
    for number in range(12):
        place.digits.append(predictions(5, first=5 * number, time=NOON + (number % 2) * DAY))
    before = place.digits.read().sort_by("sequence")
    told = place.json("compact", "digits", "--retention-days", "36500")["tables"]
    assert [(one["table"], one["files_before"], one["files_after"]) for one in told] == [("predictions digits", 12, 2)]
    assert place.digits.read(before.schema.names).sort_by("sequence").equals(before)
    shown = place.run("compact", "--retention-days", "36500")
    assert "predictions digits" in shown
    assert "2 → 2" in shown


def test_compact_removes_days_that_are_too_old(place: Place) -> None:
    for number in range(3):
        place.digits.append(predictions(2, first=2 * number, time=NOON + number * DAY))
    done = compact(place.digits, 1, NOON + 2 * DAY)
    assert (done.days_removed, done.rows_removed) == (1, 2)
    assert sorted(place.digits.read(["sequence"])["sequence"].to_pylist()) == [2, 3, 4, 5]
    # Nobody is kept from finishing to read; an hour later they are gone.
    assert len(list(Path(place.digits.uri).rglob("day=2026-11-01/*.parquet"))) == 1


def test_whoever_appends_tidies_a_day_that_is_over(place: Place) -> None:
    for number in range(MAX_FILES + 1):
        place.digits.append(predictions(1, first=number))
    assert not tidy(place.digits, None, NOON)  # it is today still
    assert tidy(place.digits, None, NOON + DAY)
    assert [day.files for day in place.digits.days()] == [1]
    assert not tidy(place.digits, None, NOON + DAY)


def test_whoever_appends_tidies_many_small_files_of_today(place: Place) -> None:
    for number in range(MAX_FILES_TODAY + 1):
        place.digits.append(predictions(1, first=number))
    assert tidy(place.digits, None, NOON)
    [day] = place.digits.days()
    assert (day.files, day.rows) == (1, MAX_FILES_TODAY + 1)


def test_a_file_that_an_append_left_half_done_goes_a_day_later(place: Place) -> None:
    place.digits.append(predictions(1))
    orphan = Path(place.digits.uri, "day=2026-11-01", "part-left-behind.parquet")
    orphan.write_bytes(b"half")
    compact(place.digits, None, NOON)
    assert orphan.exists()  # somebody may be writing it
    long_ago = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(orphan, (long_ago, long_ago))
    compact(place.digits, None, NOON)
    assert not orphan.exists()
    assert place.digits.read().num_rows == 1


def test_delete_leaves_nothing_of_a_request(place: Place, writer: SpoolWriter) -> None:
    secret = "it's-me"
    named = [secret, "other", secret]
    place.digits.append(predictions(3, request_id=named))
    place.tables.inputs("digits").append(inputs(3).drop_columns(["request_id"]).append_column("request_id", [named]))
    place.tables.feedback().append(feedback(2))
    writer.write(Stream("predictions", "digits"), predictions(2, first=3, request_id=[secret, "new"]))
    assert "3 predictions, 2 inputs, 0 feedback" in place.run("delete", "digits", "--request-id", secret)
    assert sorted(place.digits.read(["request_id"])["request_id"].to_pylist()) == ["new", "other"]
    assert place.tables.inputs("digits").read(["request_id"])["request_id"].to_pylist() == ["other"]
    assert place.tables.feedback().read().num_rows == 2
    for file in Path(place.tables.root).rglob("*.parquet"):
        if "_delta_log" not in file.parts:
            assert secret not in str(pq.read_table(file).to_pylist())
    assert "0 predictions" in place.run("delete", "digits", "--request-id", secret)


def test_a_delete_that_was_interrupted_is_finished(place: Place) -> None:
    place.digits.append(predictions(3, request_id=["secret", "other", "secret"]))
    opened = place.digits.opened()
    assert opened is not None
    opened.delete("request_id = 'secret'")  # and killed before the files went
    assert "0 predictions" in place.run("delete", "digits", "--request-id", "secret")
    for file in Path(place.digits.uri).glob("day=*/*.parquet"):
        assert pq.read_table(file)["request_id"].to_pylist() == ["other"]


def test_an_append_that_is_told_everything_needs_no_serve_config(place: Place, writer: SpoolWriter) -> None:
    writer.write(Stream("predictions", "digits"), predictions(7))
    (place.path / "serve_config.yaml").write_text("half: [a, file")
    options = ("--spool", str(writer.spool), "--retention-days", "36500")
    assert "serve_config.yaml" in place.refused("append", *options)
    assert "7 rows appended" in place.run("append", *options, "--inputs-retention-days", "36500")


def test_every_loss_has_its_words_and_is_documented() -> None:
    assert set(_REASONS) == {*REASONS, "kill"}
    documented = (Path(__file__).parents[2] / "docs/traffic.md").read_text()
    assert [reason for reason in _REASONS if f"`{reason}`" not in documented] == []


def test_serve_config_says_where_the_traffic_is(place: Place) -> None:
    place.digits.append(predictions(1))
    config = (Path(__file__).parents[2] / "serve_config.yaml").read_text()
    args = f"    args:\n      traffic_log: {{root: {place.tables.root}}}\n"
    (place.path / "serve_config.yaml").write_text(re.sub(r"    args:.*\n", args, config, count=1))
    command = [str(Path(sys.executable).with_name("tiltyard")), "traffic", "digits", "--json"]
    done = subprocess.run(command, cwd=place.path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["models"][0]["predictions"]["rows"] == 1


def test_a_root_in_s3_needs_a_spool_here() -> None:
    with pytest.raises(ValueError, match="spool: a directory is needed"):
        TrafficLogSettings(root="s3://bucket/traffic")
    settings = TrafficLogSettings(root="s3://bucket/traffic", spool="/var/spool/tiltyard")
    assert (settings.root_uri, settings.spool_path) == ("s3://bucket/traffic", Path("/var/spool/tiltyard"))
    assert TrafficLogSettings(root="/srv/traffic").spool_path == Path("/srv/traffic/.spool")


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (999, "999 B"), (12_345, "12.3 kB"), (3_210_000_000, "3.21 GB")]
)
def test_sizes_are_words(count: int, words: str) -> None:
    assert size(count) == words
