"""The verdict of the load test that kills Routers: it can fail."""

from typing import Any

import pytest

from loadtests.digit_stream import Reply
from loadtests.traffic_chaos import PREDICTION, Span, rows_twice
from models.traffic_ledger import Account
from tests.records import predictions

KILLED = 10.0


def replies(*statuses: int, start: float = 9.2) -> list[Reply]:
    """A tenth of a second apart, each answered 50 ms after it was due."""
    return [Reply(start + 0.1 * i, status, 50.0, request_id=str(i)) for i, status in enumerate(statuses)]


def faults(came: list[Reply], account: Account, stored: set[str], killed: float | None = None) -> list[str]:
    return Span("span", came, account, killed).faults(stored)


def test_all_that_was_answered_is_stored() -> None:
    assert faults(replies(200, 200), Account(2, 0, 2), {"0", "1"}) == []


def test_a_kill_may_cost_a_second_and_what_was_in_flight() -> None:
    came = [*replies(200, 200), Reply(KILLED - 0.01, 0, 50.0)]
    assert faults(came, Account(3, 0, 1, {"kill": 2}), {"0"}, KILLED) == []
    assert faults(came, Account(4, 0, 1, {"kill": 3}), {"0"}, KILLED) == ["span: 4 records of 2 answers"]


@pytest.mark.parametrize(
    ("came", "account", "stored", "killed", "words"),
    [
        (replies(200, 503), Account(1, 0, 1), {"0"}, None, "1 answers failed"),
        (replies(200, 200), Account(1, 0, 1), {"0", "1"}, None, "1 records of 2 answers"),
        (replies(200), Account(2, 0, 2), {"0"}, None, "2 records of 1 answers"),
        (replies(200), Account(1, 0, 0), {"0"}, None, "1 accepted, 0 stored, 0 lost"),
        (replies(200), Account(1, 0, 1), set(), None, "1 answers are missing"),
        (replies(200, start=8.8), Account(1, 0, 0, {"kill": 1}), set(), KILLED, "a lost record was 1.15 s old"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_a_fault(
    came: list[Reply], account: Account, stored: set[str], killed: float | None, words: str
) -> None:
    assert faults(came, account, stored, killed) == [f"span: {words}"]


@pytest.mark.parametrize(("changes", "twice"), [({}, 0), ({"request_id": "r"}, 2)])
def test_a_prediction_that_is_there_twice_is_found(changes: dict[str, Any], twice: int) -> None:
    assert rows_twice(predictions(3, **changes), PREDICTION) == twice
