"""Settings of a version on one machine, what was measured of them, and which of them to run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.errors import InvalidRequest

THROUGHPUT_SLACK = 0.05
LATENCY_SLACK = 0.2
MARGIN = 0.15

RULE = (
    f"Of the settings within {THROUGHPUT_SLACK:.0%} of the highest throughput, and of these within {LATENCY_SLACK:.0%} "
    "of the lowest p99, the one with the fewest replicas, then the smallest batch, then the fewest threads."
)
"""How one is chosen. The slack is what a measurement repeats to; what is equal within it may as well be small."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """`replicas` processes, each running batches of at most `batch` rows on `threads` threads."""

    replicas: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{shape_text(self.replicas, self.threads)}, batches of {self.batch}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A setting under full load: rows/s of all replicas together, time of one batch, RSS of one replica."""

    setting: Setting
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    replica_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The setting to run, and the sentence why; where its batches are computed faster in portions, their rows."""

    measured: Measured
    because: str
    portion: int | None = None


def frontier(measured: Iterable[Measured]) -> list[Measured]:
    """Those that no other beats in throughput without a higher p99, by rising p99 (the Pareto frontier)."""
    best: list[Measured] = []
    for each in sorted(measured, key=lambda m: (m.p99_ms, -m.rows_per_s, m.setting)):
        if not best or each.rows_per_s > best[-1].rows_per_s:
            best.append(each)
    return best


def contenders(measured: Sequence[Measured]) -> list[Measured]:
    """All but those that another beats so clearly that measuring them again would not change the choice.

    By p50, because one disturbance makes the p99 of a short slice, and what is dropped gets no second chance.
    """

    def beaten(one: Measured) -> bool:
        return any(
            other.rows_per_s > one.rows_per_s * (1 + MARGIN) and other.p50_ms < one.p50_ms * (1 - MARGIN)
            for other in measured
        )

    return [one for one in measured if not beaten(one)]


def choose(measured: Sequence[Measured], target_p99_ms: float | None = None, call_ms: float = 0.0) -> Choice:
    """Apply RULE to the settings that meet the target; each batch was measured with `call_ms` for bringing it.

    Raises InvalidRequest where none does.
    """
    within = [m for m in measured if target_p99_ms is None or m.p99_ms <= target_p99_ms]
    if not within:
        nearest = min(measured, key=lambda m: m.p99_ms)
        raise InvalidRequest(
            f"no setting keeps p99 within {target_p99_ms:g} ms on this machine; "
            f"the lowest is {nearest.p99_ms:.3g} ms, with {nearest.setting}"
        )
    fastest = max(within, key=lambda m: m.rows_per_s)
    alike = [m for m in within if m.rows_per_s >= fastest.rows_per_s * (1 - THROUGHPUT_SLACK)]
    quickest = min(alike, key=lambda m: m.p99_ms)
    alike = [m for m in alike if m.p99_ms <= quickest.p99_ms * (1 + LATENCY_SLACK)]
    chosen = min(alike, key=lambda m: (m.setting.replicas, m.setting.batch, m.setting.threads))
    return Choice(chosen, _because(chosen, fastest, target_p99_ms), portion(measured, chosen, call_ms))


def portion(measured: Iterable[Measured], chosen: Measured, call_ms: float) -> int | None:
    """Rows of a smaller batch of the same shape that takes the model less time a row, by more than THROUGHPUT_SLACK.

    Few rows stay in a core's cache; that many come with one call is another matter.
    """

    def row_ms(of: Measured) -> float:
        return max(0.0, of.p50_ms - call_ms) / of.setting.batch

    shape = chosen.setting.replicas, chosen.setting.threads
    of_shape = [m for m in measured if (m.setting.replicas, m.setting.threads) == shape]
    smaller = [m for m in of_shape if m.setting.batch < chosen.setting.batch]
    best = min(smaller, key=row_ms, default=chosen)
    return best.setting.batch if row_ms(best) < row_ms(chosen) * (1 - THROUGHPUT_SLACK) else None


def shape_text(replicas: int, threads: int) -> str:
    """`2 replicas x 1 thread`."""
    return f"{replicas} replica{'s' * (replicas > 1)} x {threads} thread{'s' * (threads > 1)}"


def _because(chosen: Measured, fastest: Measured, target_p99_ms: float | None) -> str:
    limit = "" if target_p99_ms is None else f" with a p99 within {target_p99_ms:g} ms"
    if chosen is fastest:
        return f"the highest throughput{limit}, and nothing smaller does as well"
    return (
        f"{chosen.rows_per_s / fastest.rows_per_s:.0%} of the highest throughput{limit} ({fastest.setting}: "
        f"{fastest.rows_per_s:,.0f} rows/s, p99 {fastest.p99_ms:.3g} ms), and smaller or quicker"
    )
