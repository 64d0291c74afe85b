"""`tiltyard tune`: batch size x threads x replicas of a version, measured on this machine.

Replicas are processes that run batches back to back, as they do under full load: without Ray, HTTP and
preprocessing, which take their share of the machine on top. Of these only what a batch costs, whatever its size, bears
on the setting, so it is added to each: without it, the best batch of a tiny model would be a tiny one.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from jobs.frontier import Measured, Setting, contenders, shape_text
from jobs.measured_replica import Load
from jobs.replica_pool import ReplicaPool
from models.errors import InvalidVersion, ModelFailed

CALL_MS = 1.0
"""Cost of bringing a batch to a replica: behind HAProxy a replica answered 5,300 requests/s by itself, and 1,000/s with
one call to another replica for each, so 0.8 ms; a batch takes a little more."""

BATCHES = (1, 2, 4, 8, 16, 32, 64)
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
    """What was measured, each batch counted with `call_ms`, in how many rounds, and what was not with the reason.

    `unfinished` are shapes that gained by larger batches when time was up.
    """

    measured: list[Measured]
    call_ms: float
    rounds: int
    elapsed_s: float
    left_out: dict[str, str]
    unfinished: set[Shape]


def tune(
    order: Load,
    cores: int,
    budget_s: float,
    target_p99_ms: float | None,
    progress: Progress,
    call_ms: float = CALL_MS,
) -> Tuning:
    """Measure a version for about `budget_s` seconds, half of which loading it may take; what it takes more is added.

    No process is left, whatever happens.

    Raises what loading the version raises, ModelUnavailable where a process ends, ModelFailed where nothing runs.
    """
    with ReplicaPool(order, call_ms) as pool:
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


def still_grows(measured: Sequence[Measured], longest_ms: float) -> bool:
    """Whether a batch twice as large as the last of these, which are one shape's by rising batch, is worth trying.

    It is while throughput rises, or has not failed to twice in succession; twice the rows take about twice as long.
    """
    best, stale = 0.0, 0
    for each in measured:
        stale = 0 if each.rows_per_s >= best * RISE else stale + 1
        best = max(best, each.rows_per_s)
    return stale < PATIENCE and (not measured or 2 * measured[-1].p50_ms <= longest_ms)


@dataclass
class _Measurement:
    pool: ReplicaPool
    budget_s: float
    target_p99_ms: float | None
    progress: Progress
    started: float = field(default_factory=time.monotonic)
    slices: dict[Setting, list[Measured]] = field(default_factory=dict)
    tried: dict[Shape, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    loaded_s: float = 0.0
    measuring_s: float = 0.0
    slice_s: float = SLICE_S[0]
    shapes: list[Shape] = field(default_factory=list)
    sizes: tuple[int, ...] = BATCHES

    def run(self, wanted: list[Shape]) -> Tuning:
        self.shapes = list(self._load(wanted))
        self.sizes = batches(self.pool.fixed_rows)
        self.loaded_s = self._elapsed_s
        self.measuring_s = max(self.budget_s - self.loaded_s, self.budget_s * (1 - LOADING_SHARE))
        fair_s = self.measuring_s / (len(self.shapes) * len(self.sizes) * PLANNED_ROUNDS) / (1 + WARM_UP_SHARE)
        self.slice_s = min(max(fair_s, SLICE_S[0]), SLICE_S[1])
        while settings := self._larger():
            self._measure_all(settings, 1)
            if self._is_late(1 / LEAST_ROUNDS):
                break
        if not self.slices:
            raise ModelFailed("nothing could be measured: " + listed(self.left_out))
        rounds = 1
        while self._repeat(rounds + 1):
            rounds += 1
        unfinished = self._larger()
        self.left_out |= {f"{setting} and more": NO_TIME for setting in unfinished}
        shapes = {(setting.replicas, setting.threads) for setting in unfinished}
        return Tuning(self._summaries(), self.pool.call_ms, rounds, self._elapsed_s, self.left_out, shapes)

    def _load(self, wanted: list[Shape]) -> Iterator[Shape]:
        """Load as many replicas as the shapes need, in half of the time; for two shapes there is always time."""
        for number, shape in enumerate(wanted):
            if number > 1 and self._elapsed_s > self.budget_s * LOADING_SHARE:
                self.left_out[shape_text(*shape)] = NO_TIME
                continue
            self._tell(f"loading {shape_text(*shape)}")
            if self.pool.load(*shape):
                yield shape
            else:
                self.left_out[shape_text(*shape)] = "memory does not suffice"

    def _larger(self) -> list[Setting]:
        """The next larger batch of each shape that still gains by it, as far as is known by now."""
        longest_ms = min(self.slice_s * 1000, 2 * (self.target_p99_ms or math.inf))
        summaries = sorted(self._summaries(), key=lambda measured: measured.setting)
        larger = []
        for shape in self.shapes:
            of_shape = [m for m in summaries if (m.setting.replicas, m.setting.threads) == shape]
            untried = [size for size in self.sizes if size > self.tried.get(shape, 0)]
            if untried and still_grows(of_shape, longest_ms):
                larger.append(Setting(*shape, untried[0]))
        return larger

    def _repeat(self, number: int) -> bool:
        """One more round of what can still be chosen, in another order; whether it was done to the end.

        A batch size that one noisy moment kept from being tried gets its chance here.
        """
        known = [summary for summary in self._summaries() if len(self.slices[summary.setting]) >= LEAST_ROUNDS]
        clear = set(known) - set(contenders(known))
        settings = [m.setting for m in self._summaries() if m not in clear] + self._larger()
        random.Random(number).shuffle(settings)
        return self._measure_all(settings, number)

    def _measure_all(self, settings: list[Setting], number: int) -> bool:
        """Measure them one after the other; whether time sufficed. The first two rounds are done in any case.

        The first one looks at the clock itself, and the second takes as long.
        """
        for setting in settings:
            if self._is_late() and number > LEAST_ROUNDS:
                return False
            self._measure(setting, number)
        return True

    def _measure(self, setting: Setting, number: int) -> None:
        """One slice of time for one setting; one that does not work is left out."""
        shape = setting.replicas, setting.threads
        self.tried[shape] = max(self.tried.get(shape, 0), setting.batch)
        self._tell(f"round {number}: {setting}")
        try:
            measured = self.pool.measure(setting, self.slice_s, self.slice_s * WARM_UP_SHARE)
        except (ModelFailed, InvalidVersion) as error:
            self.left_out[str(setting)] = str(error)
        else:
            self.slices.setdefault(setting, []).append(measured)

    def _summaries(self) -> list[Measured]:
        return [_summary(slices) for slices in self.slices.values()]

    def _tell(self, what: str) -> None:
        self.progress(min(1.0, self._elapsed_s / self.budget_s), what)

    def _is_late(self, share: float = 1.0) -> bool:
        """Whether that share of the time after loading is used up."""
        return self._elapsed_s - self.loaded_s >= share * self.measuring_s

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
