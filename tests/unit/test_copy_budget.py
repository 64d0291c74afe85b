"""How much of its time a shadow may be busy, by a clock that only the test moves."""

import pytest

from deployments.copy_budget import SAVED_S, CopyBudget, CopyLimits
from deployments.machine import cores


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def busy_share(limits: CopyLimits, copy_s: float, every_s: float, seconds: float = 100.0) -> float:
    """Share of the time that a shadow computes to which a copy comes every so often."""
    clock = Clock()
    budget, computed_s, end = CopyBudget(limits, clock), 0.0, clock.now + seconds
    while clock.now < end:
        if not budget.has_room:
            clock.now += every_s
            continue
        give_back = budget.take()
        clock.now += copy_s
        give_back(copy_s)
        computed_s += copy_s
    return computed_s / seconds


@pytest.mark.parametrize("copy_s", [0.001, 0.02, 0.06, 0.5])
@pytest.mark.parametrize("duty_cycle", [0.05, 0.1, 0.5])
def test_a_shadow_computes_for_no_more_than_its_duty_cycle(copy_s: float, duty_cycle: float) -> None:
    share = busy_share(CopyLimits(2, duty_cycle), copy_s, every_s=0.001)
    most = duty_cycle + (SAVED_S + copy_s) / 100
    assert 0.8 * duty_cycle < share <= most


def test_a_duty_cycle_of_one_is_no_limit() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(2, 1.0), clock)
    for _ in range(1000):
        assert budget.has_room
        give_back = budget.take()
        clock.now += 0.3
        give_back(5.0)  # in a batch with others, say


def test_what_is_computed_side_by_side_counts_once() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(8, 0.5), clock)
    copies = [budget.take() for _ in range(8)]
    clock.now += 1.0
    for give_back in copies:
        give_back(1.0)
    clock.now += 1.0 - SAVED_S - 0.01
    assert not budget.has_room
    clock.now += 0.02
    assert budget.has_room


def test_small_copies_may_come_close_together() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(1, 0.1), clock)
    for _ in range(15):
        assert budget.has_room
        give_back = budget.take()
        clock.now += 0.001
        give_back(0.001)


def test_only_so_many_are_on_their_way() -> None:
    budget = CopyBudget(CopyLimits(2, 1.0), Clock())
    give_back, _ = budget.take(), budget.take()
    assert not budget.has_room
    give_back(0.0)
    assert budget.has_room


def test_none_at_all_where_none_are_wanted() -> None:
    assert not CopyBudget(CopyLimits(0, 1.0), Clock()).has_room


def test_the_default_is_what_the_machine_has_cores_for() -> None:
    assert CopyLimits.of(2, None).duty_cycle == pytest.approx(min(1.0, cores() / 20))
    assert CopyLimits.of(2, 0.3).duty_cycle == 0.3
