from typing import Any

import pytest

from jobs.service import disagreeing, disobeyed
from models.policy import ModelPolicy

POLICY = ModelPolicy(champion=1, challengers={2: 0.1}, shadows={3: 0.5})


def said(version: int, variant: str, share: float, state: str = "ready") -> dict[str, Any]:
    return {"version": version, "variant": variant, "share": share, "state": state}


OBEYED = [said(1, "champion", 0.9), said(2, "challenger", 0.1), said(3, "shadow", 0.0)]


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        pytest.param(OBEYED, None, id="as declared"),
        pytest.param(OBEYED[:2], "it serves versions [1, 2], not [1, 2, 3]", id="missing"),
        pytest.param([*OBEYED, said(4, "challenger", 0)], "it serves versions [1, 2, 3, 4]", id="too many"),
        pytest.param([said(1, "challenger", 0.9), *OBEYED[1:]], "version 1 is its challenger, not", id="variant"),
        pytest.param(
            [OBEYED[0], said(2, "challenger", 0.1, "unavailable"), OBEYED[2]], "cannot reach version 2", id="unready"
        ),
        pytest.param([OBEYED[0], said(2, "challenger", 0.2), OBEYED[2]], "has a share of 0.2, not 0.1", id="more"),
        pytest.param([OBEYED[0], said(2, "challenger", 0.01), OBEYED[2]], "has a share of 0.01, not 0.1", id="less"),
    ],
)
def test_what_a_router_does_not_obey_is_said(versions: list[dict[str, Any]], why: str | None) -> None:
    found = disobeyed(POLICY, versions, answering={2}, certain={2})
    assert found is None if why is None else why in str(found)


def test_a_ramp_may_hold_a_share_back_and_who_need_not_answer_may_be_down() -> None:
    versions = [said(1, "champion", 0.99, "unavailable"), said(2, "challenger", 0.01), OBEYED[2]]
    assert disobeyed(POLICY, versions, answering={2}, certain=()) is None


def heard(agreeing: int, champion: int = 1, routers: int = 3) -> dict[str, Any]:
    parts = {1: ("challenger", 0.9), 2: ("challenger", 0.1), 3: ("shadow", 0.5)} | {champion: ("champion", 0.9)}
    variants = [{"version": v, "variant": variant, "declared": share} for v, (variant, share) in parts.items()]
    return {"routers": routers, "agreeing": agreeing, "variants": variants}


@pytest.mark.parametrize(
    ("rollout", "why"),
    [
        pytest.param(heard(3), None, id="all"),
        pytest.param(heard(2), "2 of 3 Routers obey", id="one does not"),
        pytest.param(heard(3, champion=2), "the referee has not heard of it", id="all were told something else"),
        pytest.param(heard(0, routers=0), None, id="nobody reports"),
    ],
)
def test_all_routers_are_waited_for(rollout: dict[str, Any], why: str | None) -> None:
    assert disagreeing(POLICY, rollout, 3) == why
