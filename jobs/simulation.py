"""Thousands of rollouts at once, judged by the bounds that `models.verdict.judge` uses."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.guards import MAX_SLOW_LOSS, MIN_CHAMPION_ANSWERS, SLOW
from models.policy import Guard, Ramp
from models.sequential import Arm, Comparison, Interval, interval, rate

Array = npt.NDArray[np.float64]
CHAMPION, CHALLENGER = 0, 1

GUARD = Guard(max_disagreement=None, max_confidence_shift=None)
"""Those that can be wronged by chance; the fewer share the significance, the harder it is to keep."""

NAIVE_MIN_REQUESTS = 100
Z = 2.128
"""One-sided 5 % divided among three guards, as the referee divides it."""


@dataclass(frozen=True)
class Scenario:
    """What the versions are really like: shares of requests that fail and of answers that are wrong.

    The error rate of both goes from `error_rate` to `error_rate_at_end`, if that is set, as the hours of a day do it.
    The share of answers beyond the champion's 99th percentile is 1 % in both, as if the guard allowed no slack.
    """

    name: str
    error_rate: float = 0.002
    error_rate_at_end: float | None = None
    more_errors: float = 0.0
    wrong: float = 0.1
    more_wrong: float = 0.0

    def base_error_rate(self, done: float) -> float:
        """The champion's, when a share of the time is done."""
        end = self.error_rate if self.error_rate_at_end is None else self.error_rate_at_end
        return self.error_rate + (end - self.error_rate) * done


@dataclass(frozen=True)
class Plan:
    """How a rollout goes: the ramp with its last share, the traffic, one look a second."""

    runs: int = 2000
    seconds: int = 1800
    requests_per_second: int = 500
    ramp: Ramp = Ramp()
    weight: float = 0.5

    @property
    def shares(self) -> Array:
        """All shares that a challenger goes through."""
        return np.array([*(step for step in self.ramp.steps if step < self.weight), self.weight])


@dataclass(frozen=True)
class Outcome:
    """What came of each run: the look and the challenger's requests at which it was stopped (NaN: never).

    `step` is where the ramp stood at the end, or when it was stopped.
    """

    stopped: Array
    requests: Array
    step: npt.NDArray[np.int64]
    threshold_stopped: npt.NDArray[np.bool_]
    z_test_stopped: npt.NDArray[np.bool_]


@dataclass
class Sums:
    """Counts of shape [runs, strata, 2]: champion and challenger."""

    requests: Array
    failed: Array
    slow: Array
    wrong: Array

    @classmethod
    def zeros(cls, runs: int, strata: int) -> "Sums":
        """Nothing seen."""
        return cls(*(np.zeros((runs, strata, 2)) for _ in range(4)))

    @property
    def answered(self) -> Array:
        """Those that did not fail."""
        return self.requests - self.failed

    def keep(self, which: npt.NDArray[np.bool_]) -> "Sums":
        """Some of the runs."""
        return Sums(self.requests[which], self.failed[which], self.slow[which], self.wrong[which])

    def comparisons(self, strata: int) -> Iterator[tuple[Comparison, float]]:
        """Error rate, p99 and accuracy with what is accepted, as `models.guards` asks for them."""
        assert GUARD.max_error_rate_loss is not None
        assert GUARD.max_accuracy_loss is not None
        answered = self.answered
        yield Comparison(self._arms(self.failed, self.requests, strata)), GUARD.max_error_rate_loss
        yield Comparison(tuple(self._slow(answered, each) for each in range(strata))), MAX_SLOW_LOSS
        yield Comparison(self._arms(self.wrong, answered, strata)), GUARD.max_accuracy_loss

    def _arms(self, happened: Array, count: Array, strata: int) -> tuple[tuple[Arm, Arm], ...]:
        return tuple(
            (
                rate(happened[:, each, CHAMPION], count[:, each, CHAMPION]),
                rate(happened[:, each, CHALLENGER], count[:, each, CHALLENGER]),
            )
            for each in range(strata)
        )

    def _slow(self, answered: Array, stratum: int) -> tuple[Arm, Arm]:
        champion = answered[:, stratum, CHAMPION]
        enough = champion >= MIN_CHAMPION_ANSWERS
        challenger = np.where(enough, answered[:, stratum, CHALLENGER], 0)
        slow = np.where(enough, self.slow[:, stratum, CHALLENGER], 0)
        return rate(SLOW * champion, champion), rate(slow, challenger)


def look(sums: Sums, strata: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which runs are to be rolled back, and which pass."""
    checks = list(sums.comparisons(strata))
    rollback = np.zeros(len(sums.requests), np.bool_)
    passes = np.ones(len(sums.requests), np.bool_)
    for comparison, limit in checks:
        found = interval(comparison, limit, GUARD.significance / len(checks), GUARD.significance)
        rollback |= harmful(found, limit)
        passes &= np.less(found.high, limit)
    return rollback, passes & ~rollback


def harmful(found: Interval, limit: float) -> npt.NDArray[np.bool_]:
    """Which losses are shown, and are more than half of what is accepted."""
    return np.greater(found.low, 0) & np.greater(found.estimate, limit / 2)


def naive(sums: Sums) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which runs a fixed threshold and a z-test on pooled counts would stop, asked at every look."""
    requests, failed, wrong = (each.sum(1) for each in (sums.requests, sums.failed, sums.wrong))
    answered = requests - failed
    threshold = np.zeros(len(requests), np.bool_)
    z_test = np.zeros(len(requests), np.bool_)
    for happened, count, limit in (
        (failed, requests, GUARD.max_error_rate_loss or 1),
        (wrong, answered, GUARD.max_accuracy_loss or 1),
    ):
        rates = happened / np.maximum(count, 1)
        loss = rates[:, CHALLENGER] - rates[:, CHAMPION]
        pooled = happened.sum(1) / np.maximum(count.sum(1), 1)
        error = np.sqrt(pooled * (1 - pooled) * (1 / np.maximum(count, 1)).sum(1))
        threshold |= loss > limit
        z_test |= loss > Z * np.maximum(error, 1e-9)
    enough = requests[:, CHALLENGER] >= NAIVE_MIN_REQUESTS
    return threshold & enough, z_test & enough


def draw(scenario: Scenario, plan: Plan, step: npt.NDArray[np.int64], done: float, dice: np.random.Generator) -> Sums:
    """One second of traffic, counts of shape [runs, 2]."""
    challenger = dice.binomial(plan.requests_per_second, plan.shares[step])
    requests = np.stack([plan.requests_per_second - challenger, challenger], axis=1)
    base = scenario.base_error_rate(done)
    failed = dice.binomial(requests, [base, min(1.0, base + scenario.more_errors)])
    slow = dice.binomial(requests - failed, SLOW)
    wrong = dice.binomial(requests - failed, [scenario.wrong, scenario.wrong + scenario.more_wrong])
    return Sums(*(each.astype(np.float64) for each in (requests, failed, slow, wrong)))


def roll_out(scenario: Scenario, plan: Plan, seed: int) -> Outcome:
    """Run all rollouts of a plan, a look a second, until each is stopped or the time is over."""
    dice = np.random.default_rng(seed)
    shares = plan.shares
    outcome = Outcome(
        np.full(plan.runs, np.nan),
        np.full(plan.runs, np.nan),
        np.zeros(plan.runs, np.int64),
        np.zeros(plan.runs, np.bool_),
        np.zeros(plan.runs, np.bool_),
    )
    sums = Sums.zeros(plan.runs, len(shares))
    alive = np.arange(plan.runs)
    since = np.zeros(plan.runs)
    for second in range(1, plan.seconds + 1):
        step = outcome.step[alive]
        new = draw(scenario, plan, step, second / plan.seconds, dice)
        rows = np.arange(len(alive))
        for name in ("requests", "failed", "slow", "wrong"):
            getattr(sums, name)[rows, step] += getattr(new, name)
        for stopped, found in zip((outcome.threshold_stopped, outcome.z_test_stopped), naive(sums), strict=True):
            stopped[alive[found]] = True
        rollback, passes = look(sums, int(step.max()) + 1)
        outcome.stopped[alive[rollback]] = second
        outcome.requests[alive[rollback]] = sums.requests[rollback, :, CHALLENGER].sum(1)
        goes_on = passes & (step < len(shares) - 1) & (second - since >= plan.ramp.min_seconds)
        goes_on &= sums.requests[rows, step, CHALLENGER] >= plan.ramp.min_requests
        outcome.step[alive[goes_on]] += 1
        since[goes_on] = second
        if rollback.any():
            alive, since, sums = alive[~rollback], since[~rollback], sums.keep(~rollback)
        if not len(alive):
            break
    return outcome
