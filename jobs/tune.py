"""`tiltyard tune`: batch size x threads x replicas of a version, measured on this machine.

Replicas are processes that run batches back to back, as they do under full load: without Ray, HTTP and
preprocessing, which take their share of the machine on top.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from jobs.frontier import Measured, Setting, contenders, shape_text
from jobs.measured_replica import Load
from jobs.replica_pool import ReplicaPool
from models.errors import InvalidRequest, InvalidVersion, ModelFailed

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5
PLANNED_ROUNDS = 3
LEAST_ROUNDS = 2
SLICE_S = (0.05, 1.0)
WARM_UP_SHARE = 0.2
RISE = 1.03
PATIENCE = 2
LOADING_SHARE = 0.5
NO_TIME = "no time for it in --budget-s"

Shape = tuple[int, int]
"""Replicas, and threads of each."""

Progress = Callable[[float, str], None]
"""Told the share of the time that is used up, and what is being measured."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured, in how many rounds, and what was not with the reason."""

    measured: list[Measured]
    rounds: int
    elapsed_s: float
    left_out: dict[str, str]


def tune(order: Load, cores: int, budget_s: float, target_p99_ms: float | None, progress: Progress) -> Tuning:
    """Measure a version for about `budget_s` seconds. No process is left, whatever happens.

    Raises what loading the version raises, ModelUnavailable where a process ends, ModelFailed where nothing runs,
    InvalidRequest where the time does not suffice.
    """
    with ReplicaPool(order) as pool:
        return _Measurement(pool, budget_s, target_p99_ms, progress).run(shapes(cores))


def shapes(cores: int) -> list[Shape]:
    """What to try: the whole machine and half of it, divided in powers of two, and a single thread.

    The single thread is first, as it says what a replica needs; then the largest ones.
    """
    powers = [2**n for n in range(cores.bit_length()) if 2**n <= cores]
    divided = {(part // threads, threads) for threads in {*powers, cores} for part in (cores, cores // 2)}
    several = [(replicas, threads) for replicas, threads in divided if replicas and (replicas, threads) != (1, 1)]
    return [(1, 1), *sorted(several, key=lambda shape: (-shape[0] * shape[1], -shape[0]))]


def batches(fixed_rows: int | None) -> tuple[int, ...]:
    """Batch sizes to try; a model that was exported with one runs no other."""
    return BATCHES if fixed_rows is None else (fixed_rows,)


@dataclass
class _Growth:
    """How throughput of one shape rises with the batch, and when to stop trying larger ones."""

    best: float = 0.0
    stale: int = 0

    def ends_with(self, measured: Measured, longest_ms: float) -> bool:
        """Whether the next larger batch is not worth trying; twice as many rows take about twice as long."""
        risen = measured.rows_per_s >= self.best * RISE
        self.best = max(self.best, measured.rows_per_s)
        self.stale = 0 if risen else self.stale + 1
        return self.stale >= PATIENCE or 2 * measured.p50_ms > longest_ms


@dataclass
class _Measurement:
    pool: ReplicaPool
    budget_s: float
    target_p99_ms: float | None
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    slices: dict[Setting, list[Measured]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    loaded_s: float = 0.0
    slice_s: float = SLICE_S[0]

    def run(self, wanted: list[Shape]) -> Tuning:
        there = list(self._load(wanted))
        sizes = batches(self.pool.fixed_rows)
        self.loaded_s = self._elapsed_s
        fair_s = (self.budget_s - self.loaded_s) / (len(there) * len(sizes) * PLANNED_ROUNDS) / (1 + WARM_UP_SHARE)
        self.slice_s = min(max(fair_s, SLICE_S[0]), SLICE_S[1])
        self._grow(there, sizes)
        if not self.slices:
            raise ModelFailed("nothing could be measured: " + listed(self.left_out))
        rounds = 1
        while rounds < ROUNDS and self._repeat(rounds + 1):
            rounds += 1
        return Tuning(self._summaries(), rounds, self._elapsed_s, self.left_out)

    def _load(self, wanted: list[Shape]) -> Iterator[Shape]:
        """Load as many replicas as the shapes need, in half of the time."""
        for shape in wanted:
            if self._elapsed_s > self.budget_s * LOADING_SHARE:
                self.left_out[shape_text(*shape)] = NO_TIME
                continue
            self._tell(f"loading {shape_text(*shape)}")
            if self.pool.load(*shape):
                yield shape
            else:
                self.left_out[shape_text(*shape)] = "memory does not suffice"
        if len(wanted) > 1 and all(shape_text(*shape) in self.left_out for shape in wanted[1:]):
            raise InvalidRequest(
                f"more than one replica with one thread could not be loaded in {self.budget_s * LOADING_SHARE:g} s, "
                f"half of --budget-s: {listed(self.left_out)}"
            )

    def _grow(self, there: list[Shape], sizes: tuple[int, ...]) -> None:
        """First round: larger and larger batches, as long as they bring something."""
        longest_ms = min(self.slice_s * 1000, 2 * (self.target_p99_ms or math.inf))
        growing = {shape: _Growth() for shape in there}
        for size in sizes:
            if size > sizes[0] and growing and self._is_late(1 / LEAST_ROUNDS):
                self.left_out[f"batches of {size} and more"] = NO_TIME
                return
            for shape, growth in list(growing.items()):
                measured = self._measure(Setting(*shape, size), 1)
                if measured is not None and growth.ends_with(measured, longest_ms):
                    del growing[shape]

    def _repeat(self, number: int) -> bool:
        """One more round of what can still be chosen, in another order; whether it was done to the end."""
        settings = [measured.setting for measured in contenders(self._summaries())]
        random.Random(number).shuffle(settings)
        for setting in settings:
            if self._is_late():
                return False
            self._measure(setting, number)
        return True

    def _measure(self, setting: Setting, number: int) -> Measured | None:
        """One slice of time for one setting; None where it does not work."""
        self._tell(f"round {number}: {setting}")
        try:
            measured = self.pool.measure(setting, self.slice_s, self.slice_s * WARM_UP_SHARE)
        except (ModelFailed, InvalidVersion) as error:
            self.left_out[str(setting)] = str(error)
            return None
        self.slices.setdefault(setting, []).append(measured)
        return measured

    def _summaries(self) -> list[Measured]:
        return [_summary(slices) for slices in self.slices.values()]

    def _tell(self, what: str) -> None:
        self.progress(min(1.0, self._elapsed_s / self.budget_s), what)

    def _is_late(self, share: float = 1.0) -> bool:
        """Whether that share of the time after loading is used up."""
        return self._elapsed_s - self.loaded_s >= share * (self.budget_s - self.loaded_s)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self.started


def _summary(slices: list[Measured]) -> Measured:
    """Medians over the rounds. Memory only grows from batch to batch, so the first round's is the setting's own."""
    return Measured(
        slices[0].setting,
        rows_per_s=median(each.rows_per_s for each in slices),
        p50_ms=median(each.p50_ms for each in slices),
        p99_ms=median(each.p99_ms for each in slices),
        replica_bytes=slices[0].replica_bytes,
    )


def listed(left_out: Mapping[str, str]) -> str:
    """What was left out with its reason, in one line."""
    return "; ".join(f"{what}: {why}" for what, why in left_out.items())
