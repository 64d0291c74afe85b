"""Processes that run a version as replicas do: started, measured together, and gone when the work is."""

import subprocess
import sys
from dataclasses import replace
from multiprocessing import Pipe
from types import TracebackType
from typing import Any, Self

import numpy as np

from jobs.frontier import Measured, Setting
from jobs.measured_replica import COMMAND, Load, Loaded, Ran, Run, WarmUp
from models.errors import ModelFailed, ModelUnavailable, TiltyardError
from models.machine import available_bytes

ANSWER_TIMEOUT_S = 300.0
RAY_REPLICA_BYTES = 160 * 1024**2
"""What a replica under Ray holds beyond one of these processes (loadtests/RESULTS.md has both)."""


class ReplicaProcess:
    """One process. It is in a session of its own, so that Ctrl-C reaches us alone, and we end it."""

    def __init__(self, order: Load) -> None:
        self._order = order
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", COMMAND, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.send(order)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, order: Load | WarmUp | Run) -> None:
        """Tell it what to do. Raises ModelUnavailable where it is gone."""
        try:
            self._connection.send(order)
        except OSError:
            raise self._gone() from None

    def receive(self) -> Any:
        """Its answer; an error is raised. Raises ModelUnavailable where it is gone or does not answer."""
        try:
            if not self._connection.poll(ANSWER_TIMEOUT_S):
                raise ModelUnavailable(f"{self._name} did not answer within {ANSWER_TIMEOUT_S:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise self._gone() from None
        if isinstance(answer, TiltyardError):
            raise answer
        return answer

    def stop(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    @property
    def _name(self) -> str:
        return f"a process running {self._order.model} version {self._order.version}"

    def _gone(self) -> ModelUnavailable:
        status = self._process.wait()
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return ModelUnavailable(f"{self._name} {how}" + (": out of memory, perhaps" if status == -9 else ""))


class ReplicaPool:
    """Replicas of one version by their number of threads, kept for the next measurement.

    `call_ms` is what bringing a batch to a replica costs; every batch is counted with it.
    """

    def __init__(self, order: Load, call_ms: float = 0.0) -> None:
        self._order = order
        self.call_ms = call_ms
        self._replicas: dict[int, list[ReplicaProcess]] = {}
        self._replica_bytes = 0
        self.fixed_rows: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for threads in list(self._replicas):
            self._stop(threads)

    def load(self, replicas: int, threads: int) -> bool:
        """Have that many with so many threads; False where they would not fit into memory.

        Raises ModelUnavailable where one ends meanwhile, or why the version cannot be loaded.
        """
        there = self._replicas.setdefault(threads, [])
        missing = max(0, replicas - len(there))
        if not self._fits(replicas, missing):  # those that wait for their next turn can be loaded again
            for other in list(self._replicas):
                if other != threads:
                    self._stop(other)
            if not self._fits(replicas, missing):
                return False
        for _ in range(missing):
            there.append(ReplicaProcess(replace(self._order, threads=threads)))
        for replica in there[len(there) - missing :]:
            loaded: Loaded = replica.receive()
            self._replica_bytes = max(self._replica_bytes, loaded.resident_bytes)
            self.fixed_rows = loaded.fixed_rows
        return True

    def measure(self, setting: Setting, seconds: float, warm_up_s: float) -> Measured:
        """Run all replicas of a setting at the same time.

        Raises ModelFailed or InvalidVersion where the setting does not work, ModelUnavailable where a process ended.
        """
        if not self.load(setting.replicas, setting.threads):
            raise ModelFailed("memory does not suffice any more")
        replicas = self._replicas[setting.threads][: setting.replicas]
        _ask(replicas, WarmUp(setting.batch, warm_up_s))
        ran: list[Ran] = _ask(replicas, Run(seconds))
        latencies = np.concatenate([each.latencies_ms for each in ran]) + self.call_ms
        return Measured(
            setting,
            rows_per_s=sum(setting.batch * 1000 / (each.mean_ms + self.call_ms) for each in ran),
            p50_ms=float(np.quantile(latencies, 0.5)),
            p99_ms=float(np.quantile(latencies, 0.99)),
            replica_bytes=max(each.resident_bytes for each in ran),
        )

    def _fits(self, replicas: int, missing: int) -> bool:
        """Whether they would fit under Ray as well; the first one of all is tried in any case."""
        if not missing or not self._replica_bytes:
            return True
        return missing * self._replica_bytes + replicas * RAY_REPLICA_BYTES <= available_bytes()

    def _stop(self, threads: int) -> None:
        for replica in self._replicas.pop(threads):
            replica.stop()


def _ask(replicas: list[ReplicaProcess], order: WarmUp | Run) -> list[Any]:
    """Have all of them do it at the same time; every answer is read, so that the next question gets its own."""
    for replica in replicas:
        replica.send(order)
    answers: list[Any] = []
    failures: list[TiltyardError] = []
    for replica in replicas:
        try:
            answers.append(replica.receive())
        except TiltyardError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return answers
