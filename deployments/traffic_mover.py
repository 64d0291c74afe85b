"""Starts the process that moves what is spooled into the tables: deltalake would cost a Router 130 MB."""

import logging
import math
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from deployments.precedence import give_way
from deployments.settings import TrafficLogSettings
from models.store import DEFAULT_ROOT
from models.traffic_spooled import Spool

logger = logging.getLogger("ray.serve")

STAMP = ".moved"
"""In the spool; its time says when somebody began to move it on."""

TIMEOUT_S = 600.0
LOOK_S = 10.0
LARGE_SHARE = 0.25
"""Of `max_spool_bytes`: with so much of it spooled, it is moved on before its time, though not within RUSH_S again."""

RUSH_S = 20.0


class Mover:
    """Runs `tiltyard traffic append` every `append_period_s`, one at a time among all that have the same spool."""

    def __init__(self, settings: TrafficLogSettings) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool_path)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="traffic-mover", daemon=True)
        self._last_failure = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End; what is spooled is moved on by whoever comes next."""
        self._closing.set()
        if (process := self._process) is not None:
            with suppress(OSError):
                process.terminate()
        if self._thread.ident is not None:
            self._thread.join(5)

    def _run(self) -> None:
        due = time.monotonic() + self._settings.append_period_s
        while not self._closing.wait(min(LOOK_S, self._settings.append_period_s)):
            try:
                is_large = self._spool.size_bytes() > LARGE_SHARE * self._settings.max_spool_bytes
                if time.monotonic() < due and not is_large:
                    continue
                due = time.monotonic() + self._settings.append_period_s
                if self.is_due(RUSH_S if is_large else math.inf):
                    self._move()
            except Exception as error:  # one failure must not be the last try
                self._say(f"{type(error).__name__}: {error}")

    def is_due(self, at_most_s: float = math.inf) -> bool:
        """Whether anything is to do that nobody else does, or began to a moment ago: once an hour there is.

        A moment is half a period, but no longer than `at_most_s`.
        """
        stamp = self._spool.path / STAMP
        with suppress(FileNotFoundError):
            if 0 <= time.time() - stamp.stat().st_mtime < min(0.5 * self._settings.append_period_s, at_most_s):
                return False
        if not self._spool.sweep_is_due() and not any(writer.streams() for writer in self._spool.writers()):
            return False
        try:
            with self._spool.locked():
                stamp.touch()
        except BlockingIOError:
            return False
        return True

    def _move(self) -> None:
        command = [
            str(Path(sys.executable).with_name("tiltyard")),
            *("traffic", "append", "--root", self._settings.root_uri, "--spool", str(self._spool.path)),
            *("--retention-days", str(self._settings.retention_days)),
            *("--inputs-retention-days", str(self._settings.inputs_retention_days)),
        ]
        process = subprocess.Popen(
            command,
            cwd=DEFAULT_ROOT.parents[1],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            process_group=0,  # no Ctrl-C reaches it; and no session of its own (precedence.py)
        )
        self._process = process
        give_way(process.pid)
        try:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        self._process = None
        if process.returncode and not self._closing.is_set():
            self._say(errors.decode(errors="replace").strip()[-1000:] or f"status {process.returncode}")
        else:
            self._last_failure = ""

    def _say(self, failure: str) -> None:
        """Once: it is tried again and again."""
        if failure != self._last_failure:
            logger.error("the spool of the traffic log is not moved on, and is tried again: %s", failure)
        self._last_failure = failure
