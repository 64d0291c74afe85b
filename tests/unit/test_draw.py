import random
from collections import Counter

import pytest

from deployments.draw import draw
from models.policy import ModelPolicy


def policy(challengers: dict[int, float], salt: str = "") -> ModelPolicy:
    sticky = {"by": "header", "name": "x-user", "salt": salt}
    return ModelPolicy.model_validate({"champion": 1, "challengers": challengers, "sticky": sticky})


USERS = [f"user-{number}" for number in range(20_000)]


def drawn(challengers: dict[int, float], salt: str = "") -> list[int]:
    made = policy(challengers, salt)
    return [draw(made, user) for user in USERS]


def test_users_are_shared_as_declared_and_keep_their_variant() -> None:
    shares = Counter(drawn({2: 0.1, 3: 0.3}))
    assert shares[2] / len(USERS) == pytest.approx(0.1, abs=3 * (0.1 * 0.9 / len(USERS)) ** 0.5)
    assert shares[3] / len(USERS) == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / len(USERS)) ** 0.5)
    assert drawn({2: 0.1, 3: 0.3}) == drawn({2: 0.1, 3: 0.3})


def test_a_growing_share_moves_only_what_it_gains() -> None:
    before, after = drawn({2: 0.1}), drawn({2: 0.2})
    moved = Counter((b, a) for b, a in zip(before, after, strict=True) if b != a)
    assert set(moved) == {(1, 2)}
    assert moved[1, 2] / len(USERS) == pytest.approx(0.1, abs=0.01)


def test_a_second_challenger_takes_users_over_and_moves_no_others() -> None:
    before, after = drawn({2: 0.2}), drawn({2: 0.2, 3: 0.2})
    moves = {(b, a) for b, a in zip(before, after, strict=True) if b != a}
    # 2 keeps a share of 0.2 of all, so it wins back from the champion what it loses to 3.
    assert moves == {(1, 3), (2, 3), (1, 2)}
    assert sum(b != a for b, a in zip(before, after, strict=True)) / len(USERS) < 0.27


def test_another_salt_draws_everybody_anew() -> None:
    before, after = drawn({2: 0.5}), drawn({2: 0.5}, salt="spring")
    assert sum(b != a for b, a in zip(before, after, strict=True)) / len(USERS) == pytest.approx(0.5, abs=0.02)


def test_without_a_key_chance_decides_and_without_shares_the_champion() -> None:
    random.seed(0)
    shares = Counter(draw(policy({2: 0.25}), None) for _ in range(20_000))
    assert shares[2] / 20_000 == pytest.approx(0.25, abs=0.01)
    assert {draw(policy({2: 0.0}), user) for user in USERS[:1000]} == {1}
    assert {draw(policy({2: 1.0}), user) for user in USERS[:1000]} == {2}
