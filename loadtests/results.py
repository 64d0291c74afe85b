"""What was measured, on disk and as medians over rounds."""

import json
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from loadtests.workloads import BENCH

RESULTS = BENCH / "results.json"

Load = Literal["closed", "open", "overload"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load on one server.

    `level` is the number of clients of a closed loop, or the share of capacity that an open loop offers.
    `generator_cpu` is the load generator's share of all cores.
    """

    round: int
    workload: str
    peer: str
    load: Load
    level: float
    rps: float
    p50_ms: float
    p99_ms: float
    errors: float = 0
    refused: float = 0
    refused_p99_ms: float = 0.0
    offered_rps: float = 0.0
    late_p99_ms: float = 0.0
    generator_cpu: float = 0.0
    memory_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds from start to the first right answer, and memory after the load."""

    round: int
    workload: str
    peer: str
    startup_s: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A server that did not start, answered wrongly, or refused a request of a load it has to bear."""

    round: int
    workload: str
    peer: str
    why: str


@dataclass
class Results:
    """One run of the benchmark."""

    machine: dict[str, str]
    measurements: list[Measurement] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def write(self, path: Path = RESULTS) -> None:
        """Write all of it, so that a run that is cut short leaves what it has."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path = RESULTS) -> "Results":
        """Read what `write` wrote."""
        found = json.loads(path.read_text())
        return cls(
            found["machine"],
            [Measurement(**each) for each in found["measurements"]],
            [Cost(**each) for each in found["costs"]],
            [Failure(**each) for each in found["failures"]],
        )

    def keep(self, earlier: "Results", workloads: Collection[str]) -> None:
        """Take over what an earlier run measured of other workloads than these, and its command."""
        self.measurements += [each for each in earlier.measurements if each.workload not in workloads]
        self.costs += [each for each in earlier.costs if each.workload not in workloads]
        self.failures += [each for each in earlier.failures if each.workload not in workloads]
        self.machine["command"] = " ; ".join((earlier.machine["command"], self.machine["command"]))

    @property
    def workloads(self) -> list[str]:
        """In the order in which they were measured first."""
        return list(dict.fromkeys(each.workload for each in self.measurements))

    def peers(self, workload: str) -> list[str]:
        """Those that were measured on a workload, in that order."""
        return list(dict.fromkeys(each.peer for each in self.measurements if each.workload == workload))

    def levels(self, load: Load) -> list[float]:
        """Ascending."""
        return sorted({each.level for each in self.measurements if each.load == load})

    def select(self, workload: str, peer: str, load: Load, level: float) -> list[Measurement]:
        """One measurement per round."""
        wanted = (workload, peer, load, level)
        return [each for each in self.measurements if (each.workload, each.peer, each.load, each.level) == wanted]

    def median(
        self, workload: str, peer: str, load: Load, level: float, value: Callable[[Measurement], float]
    ) -> float | None:
        """The median over rounds, None where there is no measurement."""
        return median([value(each) for each in self.select(workload, peer, load, level)])

    def cost(self, workload: str, peer: str, value: Callable[[Cost], float]) -> float | None:
        """The median over rounds, None where it was not taken."""
        return median([value(each) for each in self.costs if (each.workload, each.peer) == (workload, peer)])

    def ratio(self, workload: str, peer: str, to: str, level: float) -> float | None:
        """Throughput of a peer over another's: the median of the ratios within each round, which share its weather."""
        ours = {each.round: each.rps for each in self.select(workload, peer, "closed", level)}
        theirs = {each.round: each.rps for each in self.select(workload, to, "closed", level)}
        return median([ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number]])


def median(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.median(values) if values else None
