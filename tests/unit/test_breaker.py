import time

from deployments.breaker import Breaker
from models.policy import Fallback

FALLBACK = Fallback(breaker_failures=3, breaker_reset_s=0.05)


def failed(times: int) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        assert breaker.lets_through(FALLBACK)
        breaker.note(True, FALLBACK)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert failed(2).state(FALLBACK) == "closed"
    breaker = failed(3)
    assert breaker.state(FALLBACK) == "open"
    assert not breaker.lets_through(FALLBACK)
    assert breaker.trips == 1


def test_a_success_between_starts_the_count_anew() -> None:
    breaker = failed(2)
    breaker.note(False, FALLBACK)
    breaker.note(True, FALLBACK)
    assert breaker.state(FALLBACK) == "closed"


def test_one_request_finds_out_whether_it_has_recovered() -> None:
    breaker = failed(3)
    time.sleep(0.06)
    assert breaker.state(FALLBACK) == "half open"
    assert [breaker.lets_through(FALLBACK) for _ in range(3)] == [True, False, False]
    breaker.note(False, FALLBACK)
    assert breaker.state(FALLBACK) == "closed"
    assert breaker.trips == 0


def test_it_opens_again_at_the_first_failure_of_a_trial() -> None:
    breaker = failed(3)
    time.sleep(0.06)
    assert breaker.lets_through(FALLBACK)
    breaker.note(True, FALLBACK)
    assert breaker.state(FALLBACK) == "open"
    assert breaker.trips == 2


def test_a_trial_that_never_ends_does_not_keep_it_open_for_ever() -> None:
    breaker = failed(3)
    time.sleep(0.06)
    assert breaker.lets_through(FALLBACK)
    time.sleep(0.06)
    assert breaker.lets_through(FALLBACK)
