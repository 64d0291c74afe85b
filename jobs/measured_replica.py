"""A process that runs a version as a replica does, without Ray, and is told through a connection what to measure."""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.backends import prepared_sizes
from models.errors import InvalidVersion, ModelFailed, TiltyardError
from models.golden import GOLDEN, read_golden
from models.machine import resident_bytes
from models.manifest import ArtifactKind
from models.signature import Tensors
from models.store import Store
from models.version import load_version, zeros

COMMAND = "from jobs.measured_replica import main; main()"
MOST_LATENCIES = 1000


@dataclass(frozen=True, slots=True)
class Load:
    """Load a version on `threads` threads; answered by Loaded."""

    store: Path
    model: str
    version: int
    threads: int
    artifact: ArtifactKind | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """It is loaded. `fixed_rows` is the batch size it was exported with, None for any."""

    resident_bytes: int
    fixed_rows: int | None


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Run batches of `rows` rows for a while, at least one; answered by None."""

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """Run batches of that many rows back to back, at least one; answered by Ran."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ran:
    """How long batches took; `latencies_ms` are of single ones, evenly picked by rank where there were many."""

    mean_ms: float
    latencies_ms: npt.NDArray[np.float64]
    resident_bytes: int


class MeasuredReplica:
    """A loaded version and the rows that it is fed with: its golden inputs over and over, zeros for a plain tree."""

    def __init__(self, order: Load) -> None:
        store = Store(order.store)
        loaded = load_version(store, order.model, order.version, order.threads, order.artifact)
        self._backend = loaded.backend
        directory = store.directory(order.model, order.version)
        has_golden = (directory / GOLDEN).exists()
        self._rows: Tensors = read_golden(directory)[0] if has_golden else zeros(loaded.backend.signature)
        self._batch = self._rows

    def loaded(self) -> Loaded:
        """Say so."""
        return Loaded(resident_bytes(), self._backend.signature.batch_size)

    def warm_up(self, order: WarmUp) -> None:
        """Make the batch, prepare for it as a replica does, and run it. Raises ModelFailed, InvalidVersion."""
        self._batch = {name: array[np.arange(order.rows) % len(array)] for name, array in self._rows.items()}
        self._backend.prepare(prepared_sizes(order.rows))
        outputs = self._backend.run(self._batch)
        if any(array.ndim == 0 or len(array) != order.rows for array in outputs.values()):
            raise InvalidVersion(f"a batch of {order.rows} rows is not answered row by row")
        self._repeat(order.seconds)

    def run(self, order: Run) -> Ran:
        """Run it back to back. Raises ModelFailed."""
        times = self._repeat(order.seconds)
        ranks = np.linspace(0, 1, min(len(times), MOST_LATENCIES))
        return Ran(1000 * sum(times) / len(times), np.quantile(times, ranks) * 1000, resident_bytes())

    def _repeat(self, seconds: float) -> list[float]:
        """Seconds that each batch took."""
        times: list[float] = []
        last = time.perf_counter()
        stop = last + seconds
        while not times or last < stop:
            self._backend.run(self._batch)
            now = time.perf_counter()
            times.append(now - last)
            last = now
        return times


def main() -> None:
    """Load what the first order says, then obey until the other end is closed.

    The connection's file descriptor is the first argument.
    """
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, OSError):  # whoever started us is gone
        try:
            replica = MeasuredReplica(connection.recv())
        except TiltyardError as error:
            connection.send(error)
            return
        connection.send(replica.loaded())
        while True:
            connection.send(_outcome(replica, connection.recv()))


def _outcome(replica: MeasuredReplica, order: WarmUp | Run) -> Ran | TiltyardError | None:
    try:
        if isinstance(order, Run):
            return replica.run(order)
        replica.warm_up(order)
    except TiltyardError as error:
        return error
    except Exception as error:  # the other end shows it; here nobody reads a traceback
        return ModelFailed(f"{type(error).__name__}: {error}")
    return None
