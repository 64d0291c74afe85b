import numpy as np
import pytest

from models.sequential import Arm, Comparison, combine, half_width, interval, rate


def mean(arm: Arm) -> float:
    return float(arm.mean)


def test_the_half_width_is_the_one_sided_normal_mixture() -> None:
    """The half-normal mixture of likelihood ratios is at least 1/alpha at the bound, and barely."""
    variance, mixture, alpha = 0.0004, 0.01, 0.05
    z = half_width(variance, mixture, alpha) / np.sqrt(variance)
    losses = np.linspace(0, 1, 200_001)
    density = 2 * np.exp(-(losses**2) / (2 * mixture)) / np.sqrt(2 * np.pi * mixture)
    ratios = np.exp(z * losses / np.sqrt(variance) - losses**2 / (2 * variance))
    martingale = float((density * ratios).sum() * (losses[1] - losses[0]))
    assert 1 <= martingale * alpha < 1.1


def test_bounds_hold_for_normal_sums_at_every_look() -> None:
    dice = np.random.default_rng(1)
    count = np.arange(1, 3001)
    means = dice.normal(size=(1000, count.size)).cumsum(axis=1) / count
    escaped = np.abs(means) > half_width(1.0 / count, 0.01, 0.05)
    # Each of the two ends may be escaped by 5 %; a bound for one look is escaped by most.
    assert 0.02 < escaped.any(axis=1).mean() < 0.1
    assert (np.abs(means) > 1.645 / np.sqrt(count)).any(axis=1).mean() > 0.5


@pytest.mark.parametrize(("share", "ratio"), [(0.01, 99), (0.5, 1)], ids=["1 %", "half"])
@pytest.mark.parametrize("base", [0.001, 0.02, 0.5])
def test_rates_keep_their_error_chances(base: float, share: float, ratio: int) -> None:
    """Rare events and small counts, looked at after each request."""
    dice, limit, runs = np.random.default_rng(2), 0.05, 1000
    count = np.arange(1, 1001)

    def arm(true: float, each: int) -> Arm:
        happened = dice.binomial(each, true, (runs, count.size)).cumsum(axis=1)
        return rate(happened.astype(np.float64), (count * each).astype(np.float64))

    equal = interval(Comparison(((arm(base, ratio), arm(base, 1)),)), limit, 0.05, 0.05)
    worse = interval(Comparison(((arm(base, ratio), arm(base + limit, 1)),)), limit, 0.05, 0.05)
    assert np.greater(equal.low, 0).any(axis=1).mean() <= 0.06
    assert np.less(worse.high, limit).any(axis=1).mean() <= 0.06


def test_strata_are_compared_with_themselves() -> None:
    """The base rate rises tenfold as the share does: pooled, an equal challenger would look 4 points worse."""
    calm = rate(99.0, 9900), rate(1.0, 100)
    storm = rate(500.0, 5000), rate(500.0, 5000)
    loss, _ = combine(Comparison((calm, storm)), lambda arm: arm.mean, 1)
    assert loss == pytest.approx(0)
    pooled = rate(599.0, 14900), rate(501.0, 5100)
    assert combine(Comparison((pooled,)), lambda arm: arm.mean, 1)[0] == pytest.approx(0.058, abs=0.001)


def test_one_stratum_cut_in_two_says_the_same() -> None:
    whole = interval(Comparison(((rate(20.0, 2000), rate(40.0, 2000)),)), 0.02, 0.05, 0.05)
    half = rate(10.0, 1000), rate(20.0, 1000)
    cut = interval(Comparison((half, half)), 0.02, 0.05, 0.05)
    assert cut.estimate == pytest.approx(whole.estimate)
    assert cut.low == pytest.approx(whole.low, abs=5e-4)


@pytest.mark.parametrize(
    "arms",
    [
        pytest.param((rate(0.0, 0), rate(0.0, 0)), id="nothing"),
        pytest.param((rate(0.0, 0), rate(5.0, 5)), id="no champion"),
        pytest.param((rate(0.0, 100), rate(0.0, 0)), id="no challenger"),
        pytest.param((rate(0.0, 1000), rate(0.0, 3)), id="rates of 0"),
        pytest.param((rate(1000.0, 1000), rate(3.0, 3)), id="rates of 1"),
    ],
)
def test_little_data_decides_nothing(arms: tuple[Arm, Arm]) -> None:
    found = interval(Comparison((arms,)), 0.02, 0.05, 0.05)
    assert found.estimate == 0
    assert found.low < -0.02
    assert found.high > 0.02


def test_complement_and_times() -> None:
    arm = Arm(4.0, 2.5, 1.75)
    assert arm.complement() == Arm(4.0, 1.5, 0.75)
    assert arm.complement().variance == pytest.approx(arm.variance)
    assert mean(arm.times(3)) == mean(arm)
