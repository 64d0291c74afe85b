"""Interleaved rounds: in each, every server is started, checked, warmed, measured and stopped, then comes the next.

The order turns by one from round to round, so that no server always runs behind the same one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from loadtests.answers import WrongAnswer, check_answer, expected_answer
from loadtests.closed_loop import closed_loop
from loadtests.open_loop import open_loop
from loadtests.peers.peer import Peer, Start
from loadtests.results import Cost, Failure, Load, Measurement, Results
from loadtests.server_process import ServerProcess, free_port
from loadtests.workloads import BENCH, ROOT, Report, Workload

LIMIT = "limit"
OVERLOAD = 2.0
"""Times the capacity."""

SETTLE_S, SETTLE_REQUESTS = 0.5, 3
MESSAGE = 300
"""Characters of what a server said before it failed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard.

    `shares` of the capacity, which is the most that the closed loops got, are offered by open loops; with
    `overload_s`, twice the capacity as well, for so many seconds.
    """

    seconds: float = 10.0
    warm_up_s: float = 2.0
    concurrency: tuple[int, ...] = (1, 8, 32)
    shares: tuple[float, ...] = (0.5, 0.8)
    overload_s: float = 0.0
    cores: int = 2


@dataclass(frozen=True, slots=True)
class Turn:
    """One server's turn on one workload in one round."""

    round: int
    workload: Workload
    plan: Plan
    results: Results
    report: Report

    def say(self, text: str) -> None:
        """Report, with where this is."""
        self.report(f"round {self.round + 1}  {self.workload.name:12} {text}")


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The same items, starting at another one."""
    start = by % len(items) if items else 0
    return [*items[start:], *items[:start]]


def run_rounds(
    count: int,
    workloads: Sequence[Workload],
    peers: Sequence[Peer | None],
    plan: Plan,
    results: Results,
    report: Report,
) -> None:
    """Measure every peer (None is the limit) on every workload, `count` times; results are written as they come."""
    for number in range(count):
        for workload in workloads:
            turn = Turn(number, workload, plan, results, report)
            for peer in rotated(peers, number):
                if peer is None:
                    measure_limit(turn)
                else:
                    measure_peer(turn, peer)
                results.write()


def measure_limit(turn: Turn) -> None:
    """In process, without a server: one process at concurrency 1, one per core at all others."""
    command = [
        *(sys.executable, "-m", "loadtests.limit", turn.workload.name),
        *("--seconds", str(turn.plan.seconds), "--processes", str(turn.plan.cores)),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    for level in turn.plan.concurrency:
        values = found["one" if level == 1 else "all"]
        turn.results.measurements.append(
            Measurement(turn.round, turn.workload.name, LIMIT, "closed", level, generator_cpu=0.0, **values)
        )
    turn.say(f"{LIMIT:16} {found['all']['rps']:9.1f}/s on all cores, alone p50 {found['one']['p50_ms']:.2f} ms")


def measure_peer(turn: Turn, peer: Peer) -> None:
    """Start, check, warm, measure, stop. What goes wrong is recorded, and the round goes on."""
    directory = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=BENCH))
    port = free_port()
    log = BENCH / "logs" / f"{peer.name}-{turn.workload.name}.log"
    log.parent.mkdir(exist_ok=True)
    command = peer.command(Start(turn.workload, port, turn.plan.cores, directory))
    (peer.expected or expected_answer)(turn.workload)  # computed once, and not while a server is being timed
    server = ServerProcess(command, log, peer.interrupt)
    try:
        ServerTurn(turn, peer, server, f"http://127.0.0.1:{port}", directory / "body").measure()
    except (RuntimeError, OSError, ValueError, KeyError, WrongAnswer) as error:
        turn.results.failures.append(Failure(turn.round, turn.workload.name, peer.name, str(error)[:MESSAGE]))
        turn.say(f"{peer.name:16} FAILED: {str(error)[:MESSAGE]} (its output: {log.relative_to(ROOT)})")
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


class ServerTurn:
    """A started server, and what is measured on it."""

    def __init__(self, turn: Turn, peer: Peer, server: ServerProcess, address: str, body: Path) -> None:
        self._turn, self._peer, self._server, self._address, self._body = turn, peer, server, address, body
        self._request = peer.request(turn.workload)
        self._expected = (peer.expected or expected_answer)(turn.workload)
        body.write_bytes(self._request.body)

    def measure(self) -> None:
        """All of the plan. Raises RuntimeError, OSError, ValueError, KeyError or WrongAnswer."""
        plan = self._turn.plan
        startup_s = self._server.wait_until(self._answers, self._peer.startup_timeout_s)
        self._turn.say(f"{self._peer.name:16} answers rightly after {startup_s:.1f} s")
        closed_loop(self._address, self._request, self._body, 8, plan.warm_up_s)
        capacity = max(self._closed(clients) for clients in plan.concurrency)
        for share in plan.shares:
            self._open("open", share, share * capacity, plan.seconds)
        if plan.overload_s:
            self._open("overload", OVERLOAD, OVERLOAD * capacity, plan.overload_s)
        memory_mib = self._server.memory_mib()
        self._answers()
        cost = Cost(self._turn.round, self._turn.workload.name, self._peer.name, startup_s, memory_mib)
        self._turn.results.costs.append(cost)

    def _answers(self) -> bool:
        check_answer(self._peer, self._address, self._request, self._expected, self._peer.tolerance)
        return True

    def _settle(self) -> None:
        """Let the server finish what the last load left behind: a client that hangs up does not stop its request."""
        time.sleep(SETTLE_S)
        for _ in range(SETTLE_REQUESTS):
            self._answers()

    def _closed(self, clients: int) -> float:
        """Requests per second of a closed loop."""
        self._settle()
        closed = closed_loop(self._address, self._request, self._body, clients, self._turn.plan.seconds)
        self._record(
            *("closed", clients, closed.per_second, closed.p50_ms, closed.p99_ms),
            errors=closed.errors,
            generator_cpu=closed.cpu_share,
        )
        return closed.per_second

    def _open(self, load: Load, level: float, rate: float, seconds: float) -> None:
        self._settle()
        opened = open_loop(self._address, self._request, self._body, rate, seconds)
        self._record(
            *(load, level, opened.goodput_rps, opened.p50_ms, opened.p99_ms),
            errors=opened.errors,
            refused=opened.refused,
            refused_p99_ms=opened.refused_p99_ms,
            offered_rps=rate,
            late_p99_ms=opened.late_p99_ms,
            generator_cpu=opened.cpu_share,
            memory_mib=self._server.memory_mib(),
        )

    def _record(self, load: Load, level: float, rps: float, p50_ms: float, p99_ms: float, **more: float) -> None:
        measured = Measurement(
            self._turn.round, self._turn.workload.name, self._peer.name, load, level, rps, p50_ms, p99_ms, **more
        )
        self._turn.results.measurements.append(measured)
        what = f"{level:g} clients" if load == "closed" else f"{level:.0%} of capacity"
        self._turn.say(
            f"{self._peer.name:16} {what:>16}: {rps:9.1f}/s  p50 {p50_ms:8.2f} ms  p99 {p99_ms:8.2f} ms"
            + (f"  {measured.errors:g} errors" if measured.errors else "")
            + (f"  {measured.refused:g} refused" if measured.refused else "")
        )
