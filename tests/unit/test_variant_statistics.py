from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from models.variant_statistics import SMALLEST_MS, VariantStatistics, bucket, middle_ms


@pytest.mark.parametrize("milliseconds", [0.100001, 0.11, 1.0, 7.3, 123.0, 60_000.0])
def test_a_bucket_stands_for_its_latencies_to_2_5_percent(milliseconds: float) -> None:
    assert middle_ms(bucket(milliseconds)) == pytest.approx(milliseconds, rel=0.025)


def test_buckets_rise_with_latency() -> None:
    indices = [bucket(each) for each in np.geomspace(0.01, 1e5, 500)]
    assert indices == sorted(indices)
    assert bucket(0.0) == bucket(SMALLEST_MS) == 0


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_are_right_to_2_5_percent(share: float) -> None:
    latencies = np.random.default_rng(1).lognormal(2.5, 0.8, 10_000)
    found = VariantStatistics(latency=Counter(bucket(each) for each in latencies)).quantile_ms(share)
    exact = np.quantile(latencies, share, method="inverted_cdf")
    assert found == pytest.approx(exact, rel=0.025)


def test_no_answers_have_no_quantile() -> None:
    assert VariantStatistics().quantile_ms(0.99) is None
    assert VariantStatistics().slower_than(1.0) == 0


def test_slower_than_counts_the_buckets_above() -> None:
    found = VariantStatistics(latency=Counter({bucket(each): 1 for each in (1.0, 10.0, 100.0)}))
    assert [found.slower_than(each) for each in (0.5, 5.0, 10.0, 50.0, 200.0)] == [3, 2, 1, 1, 0]


def filled(seed: int) -> VariantStatistics:
    """Something in every field, so that a field which is forgotten shows."""
    dice = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for each in fields(VariantStatistics):
        number = int(dice.integers(1, 100))
        default = getattr(VariantStatistics(), each.name)
        pair = ("a", f"b{seed}") if each.name == "pairs" else seed if each.name == "latency" else f"k{seed}"
        values[each.name] = Counter({pair: number}) if isinstance(default, Counter) else type(default)(number)
    return VariantStatistics(**values)


def test_requests_are_answers_and_failures() -> None:
    found = VariantStatistics(answered=5, failures=Counter(timeout=2, not_a_number=1))
    assert (found.failed, found.requests) == (3, 8)


def test_since_takes_away_what_add_put_in() -> None:
    one, other = filled(1), filled(2)
    both = one.add(other)
    back = both.since(other)
    back.max_difference = one.max_difference
    assert back == one
    assert both.max_difference == max(one.max_difference, other.max_difference)
    assert both.latency == Counter({1: one.latency[1], 2: other.latency[2]})
    assert both.answered == one.answered + other.answered


def test_nothing_is_left_of_nothing() -> None:
    empty = filled(1).since(filled(1))
    empty.max_difference = 0.0
    assert empty == VariantStatistics()
