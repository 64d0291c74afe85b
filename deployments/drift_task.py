"""One drift run: the command of `tiltyard` in a process of its own, as a task on a CPU of its own."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from deployments.precedence import come_after_answers
from models.drift_history import NO_REFERENCE, PAGE, REPORT
from models.drift_notice import DriftNotice
from models.drift_report import DriftReport
from models.durations import written
from models.errors import Busy, NotFound
from models.monitoring import MonitoringSettings, drift_directory
from models.store import DEFAULT_ROOT

PROJECT = DEFAULT_ROOT.parents[1]
MAX_SAID = 1000

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class DriftRun:
    """Which version to look at, how far back, and where to write the report."""

    model: str
    version: int
    reach: int | timedelta
    directory: Path

    def arguments(self, settings: MonitoringSettings) -> list[str]:
        """The command, as it is typed after `tiltyard`; the settings come on its standard input."""
        reach = [f"--window={self.reach}"] if isinstance(self.reach, int) else [f"--since={written(self.reach)}"]
        return [
            "drift",
            self.model,
            f"--version={self.version}",
            *reach,
            f"--out={self.directory}",
            f"--traffic={settings.traffic}",
            f"--store={settings.store}",
            "--notify",
            "--settings=-",
        ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What it found, and what went wrong: a report can be there though nobody could be told of it.

    `skipped` says why there was nothing to do: there is no reference.
    """

    notice: DriftNotice | None
    error: str | None = None
    skipped: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it is worth another try: a second report of the same traffic would count twice."""
        return self.notice is None and self.skipped is None


def run_drift(run: DriftRun, settings: MonitoringSettings, program: str | None = None) -> Outcome:
    """Look once. Never raises: what went wrong is in the outcome."""
    try:
        with _alone(drift_directory(settings.traffic, run.model)) as lock:
            error = _execute(run, settings, program or str(Path(sys.executable).with_name("tiltyard")), lock)
        return Outcome(_notice(run.directory), error)
    except NotFound as missing:
        return Outcome(None, skipped=missing.message)
    except Busy as busy:
        return Outcome(None, busy.message)
    except OSError as failure:
        return Outcome(None, f"{type(failure).__name__}: {failure.strerror}")


@contextmanager
def _alone(directory: Path) -> Iterator[int]:
    """Hold the lock of a model's runs; the process that is started holds it too. Raises Busy."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / ".running", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another run about {directory.name} is under way") from None
        yield descriptor
    finally:
        os.close(descriptor)


def _execute(run: DriftRun, settings: MonitoringSettings, program: str, lock: int) -> str | None:
    """Run the command; None, or what went wrong. Raises NotFound where there is no reference."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(settings.model_dump_json().encode())
        given.seek(0)
        process = subprocess.Popen(
            [program, *run.arguments(settings)],
            cwd=PROJECT,
            stdin=given,
            stdout=said,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=[lock],
            preexec_fn=_modest_and_mortal,
        )
        limit_s = settings.timeout_s + (settings.on_critical.timeout_s if settings.on_critical else 0)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"it took longer than {limit_s:g} s and was stopped"
        said.seek(max(0, said.seek(0, os.SEEK_END) - MAX_SAID))
        words = " ".join(said.read().decode(errors="replace").split())
    if status == NO_REFERENCE:
        raise NotFound(words)
    return None if status == 0 else f"it ended with status {status}: {words}"


def _modest_and_mortal() -> None:
    come_after_answers()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # end with the worker, which ends with the service


def _notice(directory: Path) -> DriftNotice | None:
    try:
        report = DriftReport.model_validate_json((directory / REPORT).read_bytes())
    except (OSError, ValidationError):
        return None
    return DriftNotice.of(report, str(directory / PAGE))
