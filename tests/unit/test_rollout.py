from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.errors import InvalidRequest
from models.policy import ModelPolicy, Ramp
from models.rollout import Action, Event, History, Standing, first_share, next_share, standings
from models.store import Store

RAMP = Ramp(steps=(0.01, 0.05, 0.25))
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def event(action: Action, minute: int = 0, version: int = 2, **rest: Any) -> Event:
    return Event(
        model="digits", version=version, action=action, by="referee", time=NOON + timedelta(minutes=minute), **rest
    )


def policy(ramp: Ramp | None = None, weight: float = 0.1) -> ModelPolicy:
    return ModelPolicy(champion=1, challengers={2: weight}, shadows={3: 0.2}, ramp=ramp)


@pytest.fixture
def history(store: Store) -> History:
    return History(store, "digits")


def test_events_come_back_as_they_were_written(history: History) -> None:
    written = [event("challenge", share=0.1), event("rollback", 1, because="errors", evidence={"loss": 0.1})]
    history.append(written[0])
    history.append(written[1])
    assert history.events() == written
    assert history.path == history.path.parent.parent / "digits" / "history.jsonl"


def test_no_history_is_empty(history: History) -> None:
    assert history.events() == []


def test_a_model_name_is_no_path(store: Store) -> None:
    with pytest.raises(InvalidRequest):
        History(store, "../etc")


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_a_torn_line_is_left_out_and_the_next_starts_anew(history: History) -> None:
    history.append(event("challenge"), event("ramp", 1, share=0.05))
    tear(history.path)
    assert history.events() == [event("challenge")]
    history.append(event("rollback", 2))
    assert history.events() == [event("challenge"), event("rollback", 2)]
    assert len(history.path.read_text().splitlines()) == 3


def test_appending_leaves_what_is_there(history: History) -> None:
    history.append(event("challenge"))
    before = history.path.read_bytes()
    history.append(event("ramp", 1, share=0.05))
    assert history.path.read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("ramp", "weight", "events", "share"),
    [
        pytest.param(None, 0.1, [], 0.1, id="no ramp: its weight"),
        pytest.param(None, 0.1, [event("challenge", share=0.1)], 0.1, id="no ramp, challenged"),
        pytest.param(RAMP, 0.1, [], 0.01, id="ramp: the first step"),
        pytest.param(RAMP, 0.005, [], 0.005, id="weight below the first step"),
        pytest.param(RAMP, 0.1, [event("challenge"), event("ramp", 1, share=0.05)], 0.05, id="ramped"),
        pytest.param(RAMP, 0.1, [event("ramp", 1, share=0.25)], 0.1, id="never more than its weight"),
        pytest.param(RAMP, 0.1, [event("ramp", 1, share=0.05), event("weights", 2)], 0.01, id="weights start anew"),
        pytest.param(RAMP, 0.1, [event("ramp", 1, share=0.05), event("retire", 2)], 0.01, id="retired and back"),
        pytest.param(RAMP, 0.1, [event("ramp", 1, 4, share=0.05)], 0.01, id="another version's ramp"),
    ],
)
def test_where_a_challenger_stands(ramp: Ramp | None, weight: float, events: list[Event], share: float) -> None:
    found = standings(events, policy(ramp, weight))
    assert found[2].share == share
    assert found[2].stopped_because is None
    assert found[3].share == 0.2


@pytest.mark.parametrize("ramp", [None, RAMP], ids=["no ramp", "ramp"])
def test_what_was_rolled_back_stays_so_until_it_is_set_again(ramp: Ramp | None) -> None:
    stopped = [event("challenge"), event("rollback", 1, because="it failed")]
    expected = Standing(share=0.0, since=NOON + timedelta(minutes=1), stopped_because="it failed")
    assert standings(stopped, policy(ramp))[2] == expected
    later = [*stopped, event("deploy", 2), event("challenge", 3, version=4)]
    assert standings(later, policy(ramp))[2] == expected
    for action in ("challenge", "weights"):
        again = standings([*stopped, event(action, 4)], policy(ramp))[2]
        assert again.share == first_share(policy(ramp), 2)
        assert again.stopped_because is None
        assert again.since == NOON + timedelta(minutes=4)


def test_a_shadow_that_was_stopped_gets_no_copies() -> None:
    assert standings([event("rollback", version=3, because="slow")], policy())[3].share == 0.0


def test_a_ramp_that_was_taken_out_holds_nobody_back() -> None:
    climbed = [event("challenge", share=0.5), event("ramp", 1, share=0.05)]
    assert standings(climbed, policy(RAMP, 0.5))[2].share == 0.05
    assert standings(climbed, policy(None, 0.5))[2].share == 0.5


def test_only_the_policy_s_versions_stand() -> None:
    assert set(standings([event("challenge", version=9)], policy())) == {2, 3}


@pytest.mark.parametrize(
    ("ramp", "weight", "share", "following"),
    [
        pytest.param(RAMP, 0.5, 0.01, 0.05, id="next step"),
        pytest.param(RAMP, 0.5, 0.25, 0.5, id="after the last step its weight"),
        pytest.param(RAMP, 0.1, 0.05, 0.1, id="weight between steps"),
        pytest.param(RAMP, 0.1, 0.1, None, id="reached"),
        pytest.param(None, 0.1, 0.01, None, id="no ramp"),
    ],
)
def test_next_share(ramp: Ramp | None, weight: float, share: float, following: float | None) -> None:
    assert next_share(policy(ramp, weight), 2, share) == following
    assert next_share(policy(ramp, weight), 3, 0.2) is None


def test_what_is_written_is_read_whatever_it_says(tmp_path: Path) -> None:
    history = History(Store(tmp_path), "digits")
    history.append(Event(model="digits", version=2, action="rollback", by="ann", because="a\u2028b\x85c\u2029d"))
    with history.path.open("ab") as file:
        file.write('{"because": "é'.encode()[:-1])  # torn within a letter
    history.append(Event(model="digits", version=2, action="challenge", by="ann"))
    assert [event.action for event in history.events()] == ["rollback", "challenge"]
