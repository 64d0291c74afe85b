"""What is spooled comes into the tables, once, and whatever is killed."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from deployments.traffic_mover import STAMP, Mover
from jobs.traffic_append import SET_ASIDE, Appended, Retention, alone, append_spooled
from models.errors import Busy, TrafficUnavailable
from models.traffic import Kind
from models.traffic_ledger import Account
from models.traffic_settings import TrafficLogSettings
from models.traffic_spool import SpoolWriter, Stream
from models.traffic_spooled import SWEPT, Spool
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, inputs, predictions

DIGITS = Stream("predictions", "digits")
ROOT = Path(__file__).parents[2]

APPENDER = """
import os, signal, sys
from pathlib import Path
from jobs import traffic_append
from jobs.traffic_append import alone, append_spooled
from models import traffic_spooled
from models.traffic_spooled import Spool
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(does, after):
    left = [after]
    def dying(*arguments, **named):
        result = does(*arguments, **named)
        left[0] -= 1
        if not left[0]:
            die()
        return result
    return dying

root, spool, when = sys.argv[1:]
match when:
    case "before the commit":
        TrafficTable.append_of = die
    case "after the commit":
        TrafficTable.append_of = then_die(TrafficTable.append_of, 1)
    case "after the second commit":
        TrafficTable.append_of = then_die(TrafficTable.append_of, 2)
    case "while files are deleted":
        Path.unlink = then_die(Path.unlink, 2)
    case "before a writer is put away":
        traffic_spooled.Spool.put_away = die
    case "while a writer is put away":
        traffic_spooled.shutil.rmtree = die
print("ready", flush=True)
if when == "at any time":
    sys.stdin.readline()
with alone(Spool(Path(spool))):
    append_spooled(TrafficTables(root), Spool(Path(spool)), {})
"""


class Log:
    """A root and a spool, and writers that belong to this process."""

    def __init__(self, path: Path) -> None:
        self.tables = TrafficTables(str(path / "traffic"))
        self.spool = Spool(path / "spool")
        self.writers: list[SpoolWriter] = []

    def writer(self) -> SpoolWriter:
        self.writers.append(SpoolWriter(self.spool.path))
        return self.writers[-1]

    def write(self, writer: SpoolWriter, rows: pa.Table, stream: Stream = DIGITS, lost: int = 0) -> None:
        writer.ledger.slot(stream.name).add("accepted", rows.num_rows + lost)
        writer.write(stream, rows)

    def append(self) -> Appended:
        with alone(self.spool):
            return append_spooled(self.tables, self.spool, {})

    def appended(self) -> list[tuple[str, int]]:
        rows = self.tables.predictions("digits").read(["writer", "sequence"])
        return sorted((row["writer"], row["sequence"]) for row in rows.to_pylist())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    for writer in made.writers:
        writer.close()
        if writer.ledger.path is not None:
            writer.ledger.path.unlink(missing_ok=True)


def filled(log: Log) -> list[tuple[str, int]]:
    """Two writers, of which one is gone, with three files each; what should come of them."""
    expected = []
    for name in ("a", "b"):
        writer = log.writer()
        for number in range(3):
            log.write(writer, predictions(4, first=4 * number, writer=name), lost=number)
            log.write(writer, feedback(1, writer=name), Stream("feedback"))
        expected += [(name, number) for number in range(12)]
    writer.close()
    return expected


def test_everything_spooled_is_appended_in_one_commit_of_each_table(log: Log) -> None:
    expected = filled(log)
    done = log.append()
    assert done.rows == {"predictions/digits": 24, "feedback": 6}
    assert (done.files, done.set_aside, done.writers_gone) == (12, 0, 1)
    assert log.appended() == expected
    [day] = log.tables.predictions("digits").days()
    assert day.files == 1
    assert log.tables.feedback().read().num_rows == 6
    assert log.spool.size_bytes() == 0
    assert log.append() == Appended()


def test_a_writer_that_is_gone_is_put_away_with_its_losses(log: Log) -> None:
    filled(log)
    log.append()
    assert len(log.spool.writers()) == 1  # the living one keeps its place
    [living, gone] = log.writers
    assert living.directory.is_dir()
    assert not gone.directory.exists()
    # 3 of each were accepted and are nowhere: in memory still of the living one, lost with the other.
    assert log.spool.accounts()[DIGITS] == Account(accepted=30, spooled=24, lost={"kill": 3})


def test_a_living_writer_goes_on(log: Log) -> None:
    writer = log.writer()
    for number in range(3):
        log.write(writer, predictions(2, first=2 * number, writer="a"))
        log.append()
    assert log.appended() == [("a", number) for number in range(6)]


@pytest.mark.parametrize(
    "when",
    [
        "before the commit",
        "after the commit",
        "after the second commit",
        "while files are deleted",
        "before a writer is put away",
        "while a writer is put away",
    ],
)
def test_whenever_the_appender_is_killed_nothing_is_lost_or_doubled(log: Log, when: str) -> None:
    expected = filled(log)
    with appender(log, when) as child:
        assert child.wait(60) == -signal.SIGKILL
    log.append()
    assert log.appended() == expected
    assert log.tables.feedback().read().num_rows == 6
    assert log.spool.accounts()[DIGITS] == Account(accepted=30, spooled=24, lost={"kill": 3})
    assert len(log.spool.writers()) == 1


def test_killed_at_any_time_again_and_again_nothing_is_lost_or_doubled(log: Log) -> None:
    writer, chance = log.writer(), random.Random(5)
    for number in range(6):
        log.write(writer, predictions(100, first=100 * number, writer="a"))
        with appender(log, "at any time") as child:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            time.sleep(chance.uniform(0, 0.3))
            child.kill()
    log.append()
    assert log.appended() == [("a", number) for number in range(600)]


@contextmanager
def appender(log: Log, when: str) -> Iterator[subprocess.Popen[str]]:
    """A process that appends as soon as it is there ("at any time": as soon as it is told to)."""
    command = [sys.executable, "-c", APPENDER, log.tables.root, str(log.spool.path), when]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child


def test_only_one_moves_a_spool_on(log: Log) -> None:
    log.spool.path.mkdir()
    with alone(log.spool), pytest.raises(Busy, match="try again"):
        log.append()


def test_a_file_that_cannot_be_read_is_set_aside(log: Log) -> None:
    writer = log.writer()
    log.write(writer, predictions(2, writer="a"))
    log.write(writer, predictions(2, first=2, writer="a"))
    (writer.directory / "predictions/digits/0000000001.parquet").write_bytes(b"PAR1 no more")
    done = log.append()
    assert done.set_aside == 1
    assert log.appended() == [("a", 2), ("a", 3)]
    [aside] = (log.spool.path / SET_ASIDE).rglob("*.parquet")
    assert aside.read_bytes() == b"PAR1 no more"
    assert [each.name for each in log.spool.writers()] == [writer.name]


def test_records_that_fit_no_table_do_not_hold_up_the_others(log: Log) -> None:
    writer = log.writer()
    log.write(writer, predictions(2, writer="a"))
    log.write(writer, predictions(2, first=2, writer="a").drop_columns(["request_id"]))
    log.write(writer, predictions(2, first=4, writer="a"))
    done = log.append()
    assert (done.set_aside, done.rows) == (1, {"predictions/digits": 4})
    assert log.appended() == [("a", number) for number in (0, 1, 4, 5)]


def test_a_table_that_cannot_be_written_holds_up_no_other(log: Log) -> None:
    writer = log.writer()
    log.write(writer, predictions(2, writer="a"))
    log.write(writer, inputs(2, writer="a"), Stream("inputs", "digits"))
    (Path(log.tables.root) / "inputs").mkdir(parents=True)
    (Path(log.tables.root) / "inputs/digits").write_text("a file is where the table should be")
    with pytest.raises(TrafficUnavailable):
        log.append()
    assert log.appended() == [("a", 0), ("a", 1)]
    (Path(log.tables.root) / "inputs/digits").unlink()
    assert log.append().rows == {"inputs/digits": 2}


def test_files_of_other_columns_are_appended_together(log: Log) -> None:
    writer = log.writer()
    log.write(writer, predictions(1, writer="a", features={"input_x": pa.nulls(1)}))
    log.write(writer, predictions(1, first=1, writer="a", features={"input_x": pa.array([2.0], pa.float32())}))
    log.write(writer, predictions(1, first=2, writer="a"))
    log.append()
    rows = log.tables.predictions("digits").read(["sequence", "input_x"]).sort_by("sequence")
    assert rows["input_x"].to_pylist() == [None, 2.0, None]


def test_old_days_go_with_the_next_append(log: Log) -> None:
    writer = log.writer()
    log.write(writer, predictions(2, writer="a"))
    log.write(writer, predictions(2, first=2, writer="a", time=NOON + timedelta(days=9)))
    with alone(log.spool):
        now = datetime(2026, 11, 11, tzinfo=UTC)
        done = append_spooled(log.tables, log.spool, {"predictions": 5}, now)
    assert done.tidied == ["predictions/digits"]
    assert log.appended() == [("a", 2), ("a", 3)]


def test_old_days_of_a_table_that_stopped_growing_go_too(log: Log) -> None:
    log.tables.predictions("digits").append(predictions(2, writer="a"))
    log.tables.inputs("digits").append(inputs(2, writer="a"))
    log.spool.path.mkdir()
    retention: dict[Kind, int] = {"predictions": 5, "inputs": 5}
    assert sweep(log, retention, NOON).tidied == []
    later = NOON + timedelta(days=9)
    assert sweep(log, retention, later).tidied == []  # it was looked at within the hour
    os.utime(log.spool.path / SWEPT, (0, 0))
    assert sweep(log, retention, later).tidied == ["predictions/digits", "inputs/digits"]
    assert log.tables.inputs("digits").read().num_rows == 0


def test_what_was_replaced_is_deleted_an_hour_later(log: Log) -> None:
    table = log.tables.inputs("digits")
    log.tables.predictions("digits").append(predictions(1, time=NOON + timedelta(days=9)))
    table.append(inputs(2, writer="a"))
    log.spool.path.mkdir()
    later = NOON + timedelta(days=9)
    assert sweep(log, {"inputs": 5}, later).tidied == ["inputs/digits"]
    assert len(list(Path(table.uri).rglob("day=*/*.parquet"))) == 1  # somebody may be reading it
    for commit in Path(table.uri, "_delta_log").glob("*.json"):
        commit.write_text(re.sub(r'"deletionTimestamp":\d+', '"deletionTimestamp":1', commit.read_text()))
    os.utime(log.spool.path / SWEPT, (0, 0))
    sweep(log, {"inputs": 5}, later)
    assert list(Path(table.uri).rglob("day=*/*.parquet")) == []


def test_there_is_something_to_do_once_an_hour(log: Log) -> None:
    mover = Mover(TrafficLogSettings(root=log.tables.root, spool=str(log.spool.path), append_period_s=1))
    log.spool.path.mkdir()
    assert mover.is_due()
    (log.spool.path / STAMP).unlink()
    (log.spool.path / SWEPT).touch()
    assert not mover.is_due()


def test_a_large_spool_is_moved_on_before_its_time(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.traffic_mover.LOOK_S", 0.05)
    settings = TrafficLogSettings(root=log.tables.root, spool=str(log.spool.path), max_spool_bytes=1)
    moved = threading.Event()
    mover = Mover(settings)
    monkeypatch.setattr(mover, "_move", moved.set)
    mover.start()
    try:
        assert not moved.wait(0.3)  # nothing is spooled
        log.write(log.writer(), predictions(3))
        assert moved.wait(5)
        moved.clear()
        assert not moved.wait(0.3)  # it was tried just now
    finally:
        mover.close()


def sweep(log: Log, retention: Retention, now: datetime) -> Appended:
    with alone(log.spool):
        return append_spooled(log.tables, log.spool, retention, now)
