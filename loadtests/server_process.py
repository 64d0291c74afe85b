"""A server under test as a family of processes: started, waited for, weighed, and stopped to the last of them."""

import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobs.serve import default_interrupt
from loadtests.footprint import pss_mib
from loadtests.peers.peer import Command
from loadtests.workloads import ROOT

MARK = "TILTYARD_BENCH_RUN"
STOP_TIMEOUT_S = 45.0
POLL_S = 0.05

Process = tuple[int, str]
"""A process id, and when it started: together they are never used again."""


class ServerProcess:
    """One server. What it prints goes to a file."""

    def __init__(self, command: Command, log: Path, interrupt: bool = False) -> None:
        self._run = uuid.uuid4().hex
        self._signal = signal.SIGINT if interrupt else signal.SIGTERM
        self.log = log
        with log.open("wb") as output:
            self.started = time.monotonic()
            self._process = subprocess.Popen(
                command.arguments,
                env={**os.environ, **command.environment, MARK: self._run},
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=default_interrupt,
            )

    def wait_until(self, is_right: Callable[[], bool], timeout_s: float) -> float:
        """Seconds from the start to the first right answer. Raises RuntimeError where there is none."""
        while time.monotonic() - self.started < timeout_s:
            with suppress(OSError, ValueError):
                if is_right():
                    return time.monotonic() - self.started
            if self._process.poll() is not None:
                raise RuntimeError(f"it ended with status {self._process.returncode}: {self.last_lines()}")
            time.sleep(POLL_S)
        raise RuntimeError(f"no answer within {timeout_s:g} s: {self.last_lines()}")

    def memory_mib(self) -> float:
        """Proportional memory of the whole family: pages that are shared count once."""
        total = 0.0
        for number, _ in self._family():
            with suppress(OSError, StopIteration):
                total += pss_mib(number)
        return total

    def last_lines(self, count: int = 5) -> str:
        """The end of what the server printed."""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-count:])

    def stop(self) -> None:
        """Ask the server to end, and kill by process id what is left of its family after that."""
        family = self._family()
        if self._process.poll() is None:
            self._process.send_signal(self._signal)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        deadline = time.monotonic() + 2
        while (left := {each for each in family | self._family() if _started(each[0]) == each[1]}) and (
            time.monotonic() < deadline
        ):
            time.sleep(POLL_S)
        for number, _ in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.wait()

    def _family(self) -> set[Process]:
        """Descendants, and what was started in this run's environment though its parent is gone."""
        parents, marked = {}, set()
        needle = f"{MARK}={self._run}".encode()
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                number = int(directory.name)
                parents[number] = int(stat_fields(number)[1])
                if needle in (directory / "environ").read_bytes():
                    marked.add(number)
        family = marked | {self._process.pid}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        return {(number, start) for number in family if (start := _started(number))}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


def stat_fields(number: int) -> list[str]:
    """State, parent and so on of /proc/PID/stat, after the name, which may hold anything."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()


def _started(number: int) -> str:
    """When a process started; empty for one that is gone, or that only waits for its parent to notice."""
    try:
        fields = stat_fields(number)
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
