"""What fails a run."""

from collections.abc import Collection
from dataclasses import dataclass

from loadtests.results import Results
from loadtests.tables import REFERENCE


@dataclass(frozen=True, slots=True)
class Floor:
    """The least ratio of Tiltyard's throughput to a peer's, with the most clients, on one workload or on all."""

    peer: str
    ratio: float
    workload: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Floor":
        """Read `[WORKLOAD:]PEER=RATIO`. Raises ValueError."""
        where, separator, ratio = text.partition("=")
        if not separator:
            raise ValueError(f"{text!r}: expected [WORKLOAD:]PEER=RATIO")
        workload, _, peer = where.rpartition(":")
        return cls(peer, float(ratio), workload or None)


def missed(results: Results, floors: Collection[Floor], ours: Collection[str]) -> list[str]:
    """Why the run fails; empty where it does not."""
    problems = [f"{each.workload}: {each.peer}: {each.why}" for each in results.failures]
    for each in results.measurements:
        # At twice the capacity refusals are the right answer; at less than it, a request that is refused is lost.
        lost = each.errors + (0 if each.load == "overload" else each.refused)
        if each.peer in ours and lost:
            problems.append(
                f"{each.workload}: {each.peer}: {lost:g} requests not answered 200 ({each.load}, {each.level:g})"
            )
    for floor in floors:
        problems += _below(results, floor)
    return problems


def _below(results: Results, floor: Floor) -> list[str]:
    problems = []
    for workload in [floor.workload] if floor.workload else results.workloads:
        ratio = results.ratio(workload, REFERENCE, floor.peer, results.levels("closed")[-1])
        if ratio is None:
            problems.append(f"{workload}: {floor.peer} and {REFERENCE} were not both measured")
        elif ratio < floor.ratio:
            problems.append(f"{workload}: {ratio:.2f} of {floor.peer}'s throughput, not {floor.ratio:.2f}")
    return problems
