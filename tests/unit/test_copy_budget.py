"""How much of its time a shadow may be busy, by a clock that only the test moves."""

import pytest

from deployments.copy_budget import MAX_REST_S, SAVED_S, CopyBudget, CopyLimits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def busy_share(limits: CopyLimits, copy_s: float, seconds: float = 100.0) -> float:
    """Share of the time that a shadow is busy to which a copy comes every millisecond."""
    clock = Clock()
    budget, busy_s, end = CopyBudget(limits, clock), 0.0, clock.now + seconds
    while clock.now < end:
        if not budget.has_room:
            clock.now += 0.001
            continue
        budget.take()
        clock.now += copy_s
        budget.give_back(copy_s)
        busy_s += copy_s
    return busy_s / seconds


@pytest.mark.parametrize("copy_s", [0.001, 0.02, 0.06, 0.5])
@pytest.mark.parametrize("duty_cycle", [0.05, 0.1, 0.5])
def test_a_shadow_is_busy_for_no_more_than_its_duty_cycle(copy_s: float, duty_cycle: float) -> None:
    share = busy_share(CopyLimits(2, duty_cycle), copy_s)
    assert 0.8 * duty_cycle < share <= duty_cycle + (SAVED_S + copy_s) / 100


def test_a_duty_cycle_of_one_is_no_limit() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(2, 1.0), clock)
    for _ in range(1000):
        assert budget.has_room
        budget.take()
        clock.now += 0.3
        budget.give_back(5.0)  # in a batch with others, say


def test_what_is_busy_side_by_side_counts_once() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(8, 0.5), clock)
    for _ in range(8):
        budget.take()
    clock.now += 1.0
    for _ in range(8):
        budget.give_back(1.0)
    clock.now += 1.0 - SAVED_S - 0.01
    assert not budget.has_room
    clock.now += 0.02
    assert budget.has_room


def test_a_quick_copy_beside_a_slow_one_does_not_make_that_one_free() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(2, 0.5), clock)
    budget.take()
    budget.take()
    clock.now += 0.99
    budget.give_back(0.0)  # another replica's, say
    clock.now += 0.01
    budget.give_back(1.0)
    clock.now += 0.7
    assert not budget.has_room


def test_small_copies_may_come_close_together() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(1, 0.1), clock)
    for _ in range(15):
        assert budget.has_room
        budget.take()
        clock.now += 0.001
        budget.give_back(0.001)


def test_no_rest_is_longer_than_half_a_minute() -> None:
    clock = Clock()
    budget = CopyBudget(CopyLimits(1, 0.05), clock)
    budget.take()
    clock.now += 60.0
    budget.give_back(60.0)
    clock.now += MAX_REST_S - 0.01
    assert not budget.has_room
    clock.now += 0.02
    assert budget.has_room


def test_only_so_many_are_on_their_way() -> None:
    budget = CopyBudget(CopyLimits(2, 1.0), Clock())
    budget.take()
    budget.take()
    assert not budget.has_room
    budget.give_back(0.0)
    assert budget.has_room


def test_none_at_all_where_none_are_wanted() -> None:
    assert not CopyBudget(CopyLimits(0, 1.0), Clock()).has_room


@pytest.mark.parametrize(("cores", "duty_cycle"), [(1, 0.05), (2, 0.1), (20, 1.0), (64, 1.0)])
def test_the_default_is_what_the_machine_has_cores_for(cores: int, duty_cycle: float) -> None:
    assert CopyLimits.of(2, None, cores).duty_cycle == pytest.approx(duty_cycle)
    assert CopyLimits.of(2, 0.3, cores).duty_cycle == 0.3
