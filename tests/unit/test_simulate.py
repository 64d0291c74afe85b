import re
from collections import Counter

import numpy as np
import pytest

from jobs.power import requests_to_pass, requests_to_stop, wrong_verdicts
from jobs.simulate import BEGIN, END, quantiles, replace_between, simulate
from jobs.simulation import CHALLENGER, CHAMPION, GUARD, Plan, Scenario, Sums, draw, look, roll_out
from models.policy import Ramp
from models.variant_statistics import VariantStatistics, bucket
from models.verdict import Stratum, judge

FAST = Plan(runs=300, seconds=300, requests_per_second=2000, ramp=Ramp(min_seconds=20))


def statistics(sums: Sums, run: int, stratum: int, arm: int) -> VariantStatistics:
    """The sums that Routers would have kept: the champion answers within 10 ms, slow answers take 50."""
    requests, failed, slow, wrong = (
        int(each[run, stratum, arm]) for each in (sums.requests, sums.failed, sums.slow, sums.wrong)
    )
    answered = requests - failed
    slow = slow if arm == CHALLENGER else 0
    return VariantStatistics(
        answered=answered,
        failures=Counter(model_failed=failed),
        latency=Counter({bucket(10.0): answered - slow, bucket(50.0): slow}),
        labelled=answered,
        correct=answered - wrong,
    )


def test_the_simulation_decides_as_the_referee_does() -> None:
    """Verdicts of every kind, on one to four strata."""
    dice, plan = np.random.default_rng(3), Plan(runs=60)
    scenario = Scenario("a bit worse", more_wrong=0.012)
    sums = Sums.zeros(plan.runs, 4)
    verdicts: Counter[str] = Counter()
    rows = np.arange(plan.runs)
    for second in range(1, 321):
        step = np.full(plan.runs, second // 81)
        new = draw(scenario, plan, step, 1.0, dice)
        for name in ("requests", "failed", "slow", "wrong"):
            getattr(sums, name)[rows, step] += getattr(new, name)
        if second % 40:
            continue
        strata = int(step.max()) + 1
        rollback, passes = look(sums, strata)
        for run in range(0, plan.runs, 6):
            seen = [
                Stratum(statistics(sums, run, each, CHAMPION), statistics(sums, run, each, CHALLENGER))
                for each in range(strata)
            ]
            expected = "rollback" if rollback[run] else "pass" if passes[run] else "hold"
            assert judge(seen, GUARD).decision == expected
            verdicts[expected] += 1
    assert set(verdicts) == {"rollback", "pass", "hold"}


@pytest.mark.parametrize("error_rate", [0.002, 0.02])
def test_equal_challengers_are_left_alone_and_arrive(error_rate: float) -> None:
    found = roll_out(Scenario("equal", error_rate=error_rate), FAST, seed=4)
    assert np.isfinite(found.stopped).mean() <= 0.05
    assert (found.step == 3).mean() > 0.9
    assert found.threshold_stopped.mean() > 0.2
    assert found.z_test_stopped.mean() > 0.2


@pytest.mark.parametrize(
    "scenario", [Scenario("wrong", more_wrong=0.02), Scenario("fails", more_errors=0.02)], ids=lambda each: each.name
)
def test_two_points_worse_is_stopped(scenario: Scenario) -> None:
    found = roll_out(scenario, FAST, seed=5)
    assert np.isfinite(found.stopped).mean() >= 0.95
    assert (found.step > 0).mean() <= 0.07


def test_always_failing_is_stopped_within_a_few_dozen() -> None:
    assert requests_to_stop(0.002, 1.0, 0.02, runs=50, seed=6, last=300).max() <= 36


def test_worse_is_stopped_sooner() -> None:
    medians = [np.median(requests_to_stop(0.1, loss, 0.02, 100, 7, last=20_000)) for loss in (0.02, 0.05, 0.2)]
    assert medians == sorted(medians, reverse=True)
    assert np.isfinite(requests_to_pass(0.002, 0.02, 100, 7, last=5000)).all()


def test_single_checks_keep_the_significance() -> None:
    stopped, passed = wrong_verdicts(0.001, 0.01, 0.02, runs=500, seed=8)
    assert stopped <= 0.05
    assert passed <= 0.06


def test_the_same_seed_gives_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.simulate.CURVES", {"accuracy": (0.1, (0.2,))})
    monkeypatch.setattr("jobs.simulate.BASES", (0.1,))
    pages = [simulate(runs=5, seconds=30, seed=1, plot=None) for _ in range(2)]
    assert pages[0] == pages[1]
    assert re.search(r"\| accuracy 2 points worse \| \d", pages[0])


def test_only_the_generated_part_is_replaced() -> None:
    assert replace_between(f"a\n{BEGIN}old{END}b\n", "new") == f"a\n{BEGIN}\nnew\n{END}b\n"


def test_runs_that_never_end_say_so() -> None:
    assert quantiles(np.array([10.0] * 8 + [np.inf] * 2)) == "10 / never"
