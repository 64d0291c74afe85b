"""Kills, full and read-only disks under the traffic log: are answers held up, and is every record accounted for?

    make traffic-chaos

Four Routers and a steady stream of digits, with the spool on a small disk of its own (a tmpfs, which takes root; else
only kills are tried). A table says for each span what clients saw, what the Routers' ledgers say became of the records,
and of records that a kill cost how old the oldest was. At the end all is moved into the tables and counted there. A
machine's clock cannot be set for one process: clock jumps are in tests/unit/test_traffic_log.py.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from loadtests.digit_stream import Reply
from loadtests.live_champion import MODEL, LiveChampion, live_champion
from models.traffic_ledger import Account
from models.traffic_spool import Stream
from models.traffic_spooled import Spool
from models.traffic_tables import TrafficTables

STREAM = Stream("predictions", MODEL)
PLACE = ("writer", "sequence")
PREDICTION = ("request_id", "item", "version", "variant")

Harm = AbstractContextManager[float | None]
"""What goes wrong; where a Router is killed, it gives the moment."""

SETTLED_WITHIN_S = 20.0
DISK = "16m"

MAX_LOST_S = 1.0
"""Of what a kill may cost."""


@dataclass(frozen=True, slots=True)
class Span:
    """What was seen while one thing went wrong; where a Router was `killed`, when that was (time.monotonic())."""

    name: str
    replies: Sequence[Reply]
    accounts: Account
    killed: float | None = None

    @property
    def answered(self) -> list[Reply]:
        """Good answers."""
        return [reply for reply in self.replies if reply.status == 200]

    @property
    def failed(self) -> int:
        """Number of the others."""
        return len(self.replies) - len(self.answered)

    def missing(self, stored: set[str]) -> list[Reply]:
        """What was answered and is not in the table."""
        return [reply for reply in self.answered if reply.request_id not in stored]

    def oldest_s(self, stored: set[str]) -> float | None:
        """How long before the kill the first of the missing was answered."""
        missing = self.missing(stored)
        return self.killed - min(map(_came, missing)) if self.killed is not None and missing else None

    def in_flight(self) -> int:
        """Requests that the kill met."""
        if self.killed is None:
            return 0
        return sum(reply.due <= self.killed <= _came(reply) for reply in self.replies)

    def faults(self, stored: set[str]) -> list[str]:
        """What must not be."""
        sums, lost = self.accounts, sum(self.accounts.lost.values())
        answered, oldest_s = len(self.answered), self.oldest_s(stored) or 0.0
        checks = {
            f"{self.failed} answers failed": self.failed and self.killed is None,
            f"{sums.accepted} records of {answered} answers": (
                not answered <= sums.accepted <= answered + self.in_flight()
            ),
            f"{sums.accepted} accepted, {sums.spooled} stored, {lost} lost": sums.accepted != sums.spooled + lost,
            f"{len(self.missing(stored))} answers are missing": len(self.missing(stored)) > lost,
            f"a lost record was {oldest_s:.2f} s old": oldest_s > MAX_LOST_S,
        }
        return [f"{self.name}: {words}" for words, is_so in checks.items() if is_so]


def _came(reply: Reply) -> float:
    """When it was answered (time.monotonic())."""
    return reply.due + reply.milliseconds / 1000


def account(spool: Spool) -> Account:
    """The sums of all Routers."""
    return spool.accounts().get(STREAM, Account())


def settled(spool: Spool) -> Account:
    """The sums once nothing that was sent is in memory any more. Raises SystemExit."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while (sums := account(spool)).buffered:
        if time.monotonic() > deadline:
            raise SystemExit(f"{sums.buffered} records are neither stored nor counted as lost")
        time.sleep(0.1)
    return sums


@contextmanager
def killed(made: LiveChampion) -> Iterator[float]:
    """Kill one of the Routers; gives the moment."""
    for pid in made.service.replicas("gateway", "Router").values():
        with suppress(ProcessLookupError):  # the one that was killed before
            os.kill(pid, signal.SIGKILL)
            break
    yield time.monotonic()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Let there be no space left."""
    filler = disk / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Let nothing be written."""
    while subprocess.run(["mount", "-o", "remount,ro", disk], check=False, capture_output=True).returncode:
        time.sleep(0.01)  # a file is being written
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@contextmanager
def small_disk() -> Iterator[tuple[Path, bool]]:
    """A directory, and whether it is a disk of its own."""
    with tempfile.TemporaryDirectory(prefix="tiltyard-disk-") as directory:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", directory]
        is_mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
        try:
            yield Path(directory), is_mounted
        finally:
            if is_mounted:
                subprocess.run(["umount", "--lazy", directory], check=True)


def span(made: LiveChampion, spool: Spool, name: str, seconds: float, harm: Harm) -> Span:
    """Let something go wrong for a while in the middle of the stream, which is held for a moment before and after."""
    before, first = settled(spool), len(made.stream.replies)
    with made.stream.flowing():
        time.sleep(seconds / 3)
        with harm as moment:
            time.sleep(seconds)
        time.sleep(seconds / 3)
    after = settled(spool)
    lost = {reason: count - before.lost.get(reason, 0) for reason, count in after.lost.items()}
    sums = Account(
        after.accepted - before.accepted, 0, after.spooled - before.spooled, {r: n for r, n in lost.items() if n}
    )
    return Span(name, made.stream.replies[first:], sums, moment)


def row(each: Span, stored: set[str]) -> str:
    """One row of the table."""
    sums, oldest_s = each.accounts, each.oldest_s(stored)
    lost = ", ".join(f"{count} {reason}" for reason, count in sums.lost.items()) or "0"
    age = f"{oldest_s:.2f} s" if oldest_s is not None else ""
    milliseconds = sorted(reply.milliseconds for reply in each.replies)
    p99 = milliseconds[int(len(milliseconds) * 0.99)] if milliseconds else 0.0
    return (
        f"| {each.name} | {len(each.replies)} | {each.failed} | {p99:.0f} | {sums.accepted} | {sums.spooled} | {lost} |"
        f" {len(each.missing(stored))} | {age} | {'NO' if each.faults(stored) else 'yes'} |"
    )


def rows_in_tables(made: LiveChampion, spool: Spool) -> tuple[int, set[str]]:
    """Move on what is left, and count: rows, and the requests they are of. Raises SystemExit where a row is twice."""
    root = str(made.path.parent / "traffic")
    command = [str(Path(sys.executable).with_name("tiltyard")), "traffic", "append"]
    subprocess.run([*command, "--root", root, "--spool", str(spool.path)], check=True)
    table = TrafficTables(root).predictions(MODEL).read([*PLACE, *PREDICTION])
    for key in (PLACE, PREDICTION):
        if twice := rows_twice(table, key):
            raise SystemExit(f"{twice} rows are there twice, by {', '.join(key)}")
    return table.num_rows, set(table["request_id"].to_pylist())


def rows_twice(table: pa.Table, key: Sequence[str]) -> int:
    """How many rows have a key that another one has already."""
    return int(table.num_rows - table.select(key).group_by(key).aggregate([]).num_rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills, full and read-only disks under the traffic log.")
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="that each thing lasts")
    parser.add_argument("--routers", type=int, default=4)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with small_disk() as (disk, is_small):
        spool = Spool(disk / "spool")
        log = {"spool": str(spool.path), "append_period_s": 5}
        with live_champion(options.rate, options.port, routers=options.routers, traffic_log=log) as made:
            made.stream.gives_feedback = False
            wait_for_routers(made, options.routers)
            harms: list[tuple[str, Harm]] = [
                (f"nothing, {options.routers} Routers", nullcontext()),
                ("kill -9 of a Router", killed(made)),
                ("kill -9 of another", killed(made)),
            ]
            if is_small:
                harms += [("full disk", full(disk)), ("read-only disk", read_only(disk))]
            spans = []
            for name, harm in harms:
                spans.append(span(made, spool, name, options.seconds, harm))
                print(f"{name}: {spans[-1].accounts}")
            made.serving.stop()
            sums = account(spool)
            rows, stored = rows_in_tables(made, spool)
    print(
        "\n| what went wrong | requests | failed | p99 ms | accepted | stored | lost | answered, not stored |", end=""
    )
    print(" oldest of these at the kill | as it should be |\n|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(row(each, stored) for each in spans))
    print(f"\nIn all {sums.accepted} records accepted, {sums.spooled} spooled, {rows} rows in the table, none twice.")
    faults = [fault for each in spans for fault in each.faults(stored)]
    if rows != sums.spooled:
        faults.append("the table has other rows than were spooled")
    print("\n".join(faults))
    if faults:
        raise SystemExit(1)


def wait_for_routers(made: LiveChampion, count: int) -> None:
    """All of them run."""
    deadline = time.monotonic() + 60
    while len(made.service.replicas("gateway", "Router")) < count and time.monotonic() < deadline:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
