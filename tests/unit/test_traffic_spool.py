import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.traffic_append import SET_ASIDE
from models.traffic_ledger import SHARED_MEMORY, Account, Ledger
from models.traffic_spool import LEDGER, SpoolWriter, Stream, hashing_key
from models.traffic_spooled import LOSSES, Spool, SpooledWriter

DIGITS = Stream("predictions", "digits")
ROOT = Path(__file__).parents[2]

DYING = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa
from models import traffic_ledger, traffic_spool
from models.traffic_spool import SpoolWriter, Stream

writer = SpoolWriter(Path(sys.argv[1]))
stream = Stream("predictions", "digits")
slot = writer.ledger.slot(stream.name)
for _ in range(3):
    slot.add("accepted", 10)
    writer.write(stream, pa.table({"x": list(range(10))}))
slot.add("accepted", 10)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying:
    def __setitem__(self, place, value):
        if place == traffic_ledger._PLACES["next_spooled"]:
            die()
        slot._counters_[place] = value
    def __getitem__(self, place):
        return slot._counters_[place]

match sys.argv[2]:
    case "while it is written":
        os.fsync = die
    case "before it is intended":
        traffic_ledger.Slot.intend = die
    case "while it is intended":
        slot._counters_, slot._counters = slot._counters, Dying()
    case "before it is renamed":
        Path.rename = die
    case "after it is renamed":
        traffic_ledger.Slot.done = die
    case "after it is counted":
        done = traffic_ledger.Slot.done
        traffic_ledger.Slot.done = lambda slot: (done(slot), die())
writer.write(stream, pa.table({"x": list(range(10))}))
"""


@pytest.fixture(autouse=True)
def no_ledger_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for ledger in tmp_path.rglob(LEDGER):
        ledger.resolve().unlink(missing_ok=True)


def rows(count: int) -> pa.Table:
    return pa.table({"x": list(range(count))})


def rows_on_disk(writer: SpooledWriter, stream: Stream = DIGITS) -> int:
    return sum(pq.read_metadata(file.path).num_rows for file in writer.files(stream))


def test_what_is_written_is_seen_whole_and_in_order(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    slot = writer.ledger.slot(DIGITS.name)
    slot.add("accepted", 6)
    assert writer.write(DIGITS, rows(2)) > 0
    writer.write(DIGITS, rows(3))
    writer.ledger.slot("feedback").add("accepted", 1)
    writer.write(Stream("feedback"), rows(1))
    [seen] = Spool(tmp_path).writers()
    assert seen.streams() == [Stream("feedback"), DIGITS]
    assert [file.number for file in seen.files(DIGITS)] == [1, 2]
    assert rows_on_disk(seen) == 5
    with seen.held() as is_gone:
        assert not is_gone
    account = Spool(tmp_path).accounts()[DIGITS]
    assert account == Account(accepted=6, spooled=5)
    assert account.buffered == 1
    writer.close()
    assert Spool(tmp_path).accounts()[DIGITS] == Account(accepted=6, spooled=5, lost={"kill": 1})


@pytest.mark.parametrize(
    ("when", "spooled"),
    [
        ("while it is written", 30),
        ("before it is intended", 30),
        ("while it is intended", 30),
        ("before it is renamed", 30),
        ("after it is renamed", 40),
        ("after it is counted", 40),
    ],
)
def test_whenever_a_writer_is_killed_what_is_on_disk_is_what_the_ledger_says(
    tmp_path: Path, when: str, spooled: int
) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), when], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    [writer] = Spool(tmp_path).writers()
    assert rows_on_disk(writer) == spooled
    lost = {"kill": 40 - spooled} if spooled < 40 else {}
    assert Spool(tmp_path).accounts() == {DIGITS: Account(40, 0, spooled, lost)}
    ledger = (writer.directory / LEDGER).resolve()
    with writer.held() as is_gone:
        assert is_gone
        Spool(tmp_path).put_away(writer)
    assert Spool(tmp_path).writers() == []
    assert not ledger.exists()
    assert Spool(tmp_path).accounts() == {DIGITS: Account(40, 0, spooled, lost)}


def test_who_is_put_away_twice_counts_once(tmp_path: Path) -> None:
    for _ in range(2):
        writer = SpoolWriter(tmp_path)
        writer.ledger.slot(DIGITS.name).add("accepted", 5)
        writer.write(DIGITS, rows(5))
        writer.close()
    for each in Spool(tmp_path).writers():
        Spool(tmp_path).put_away(each)
    lines = (tmp_path / LOSSES).read_text().splitlines()
    empty = json.dumps({**json.loads(lines[0]), "streams": {}})
    (tmp_path / LOSSES).write_text("\n".join([*lines, lines[0], empty, lines[1][:20]]))
    assert Spool(tmp_path).accounts() == {DIGITS: Account(accepted=10, spooled=10)}


def test_a_writer_that_cannot_be_seen_yet_counts_already(tmp_path: Path) -> None:
    blocked = tmp_path / "spool"
    blocked.write_text("a file is where the directory should be")
    writer = SpoolWriter(blocked)
    writer.ledger.slot(DIGITS.name).add("accepted", 3)
    with pytest.raises(OSError, match="spool"):
        writer.write(DIGITS, rows(3))
    blocked.unlink()
    writer.write(DIGITS, rows(3))
    assert Spool(blocked).accounts() == {DIGITS: Account(accepted=3, spooled=3)}
    writer.close()


def test_a_spool_that_is_removed_is_made_anew_and_is_locked(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool")
    writer.write(DIGITS, rows(1))
    shutil.rmtree(tmp_path / "spool")
    writer.write(DIGITS, rows(1))
    [seen] = Spool(tmp_path / "spool").writers()
    with seen.held() as is_gone:
        assert not is_gone
    assert [file.number for file in seen.files(DIGITS)] == [2]
    writer.close()


def test_nothing_is_left_of_a_writer_that_never_wrote(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool")
    writer.close()
    assert not list(SHARED_MEMORY.glob(f"*{writer.name}*"))
    assert Spool(tmp_path / "spool").writers() == []


def test_a_writer_that_was_killed_before_it_wrote_is_found(tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from models.traffic_spool import SpoolWriter
SpoolWriter(Path({str(tmp_path)!r})).ledger.slot("predictions/digits").add("accepted", 4)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    living = SpoolWriter(tmp_path)
    spool = Spool(tmp_path)
    assert spool.accounts() == {DIGITS: Account(accepted=4, lost={"kill": 4})}
    for writer in spool.writers():
        with writer.held() as is_gone:
            if is_gone:
                ledger = (writer.directory / LEDGER).resolve()
                spool.put_away(writer)
    assert spool.accounts() == {DIGITS: Account(accepted=4, lost={"kill": 4})}
    assert not ledger.exists()
    assert [each.name for each in spool.writers()] == [living.name]
    living.open()
    assert [each.directory for each in spool.writers()] == [living.directory]
    living.close()


def test_a_writer_that_gets_its_name_while_it_is_looked_at_lives(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    [seen] = Spool(tmp_path).writers()
    writer.open()
    with seen.held() as is_gone:
        assert not is_gone
    assert seen.streams() == []
    writer.close()


def test_what_was_set_aside_takes_no_room_of_the_spool(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    size = writer.write(DIGITS, rows(1))
    aside = tmp_path / SET_ASIDE / DIGITS.name / "a.parquet"
    aside.parent.mkdir(parents=True)
    aside.write_bytes(b"unreadable")
    assert Spool(tmp_path).size_bytes() == size
    writer.close()


def test_a_ledger_that_is_gone_or_damaged_says_nothing(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path)
    writer.write(DIGITS, rows(1))
    assert writer.ledger.path is not None
    writer.ledger.path.unlink()
    assert Spool(tmp_path).accounts() == {}
    (tmp_path / "damaged").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="damaged is no ledger"):
        Ledger.read(tmp_path / "damaged")


def test_all_hash_with_the_same_key(tmp_path: Path) -> None:
    assert hashing_key(tmp_path / "spool") == hashing_key(tmp_path / "spool")
    assert len(hashing_key(tmp_path / "spool")) == 32
    assert (tmp_path / "spool" / "key").stat().st_mode & 0o077 == 0


def test_a_key_that_was_half_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"half")
    key = hashing_key(tmp_path)
    assert len(key) == 32
    assert hashing_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_only_streams_are_named() -> None:
    assert Stream.named("predictions/digits") == DIGITS
    assert Stream.named("feedback") == Stream("feedback")
    with pytest.raises(ValueError, match="is no stream"):
        Stream.named("drift/digits")
