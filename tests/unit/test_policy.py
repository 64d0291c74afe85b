from typing import Any

import pytest
from pydantic import ValidationError

from models.policy import DeclaredRouting, ModelPolicy, RoutingPolicy


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        pytest.param({"champion": 1, "challengers": {1: 0.1}}, "cannot challenge itself", id="its own challenger"),
        pytest.param({"champion": 1, "challengers": {2: 0.6, 3: 0.6}}, "add up to 1.2", id="more than all"),
        pytest.param({"champion": 1, "challengers": {2: -0.1}}, "greater than or equal to 0", id="negative"),
        pytest.param({"champion": 0}, "greater than or equal to 1", id="version 0"),
        pytest.param({"champion": 1, "shadow": 2}, "Extra inputs", id="unknown field"),
    ],
)
def test_bad_policies_are_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelPolicy.model_validate(policy)


def test_default_model_must_be_there() -> None:
    with pytest.raises(ValidationError, match="'cats' is not among the models"):
        DeclaredRouting.model_validate({"default_model": "cats", "models": {"digits": {"champion": 1}}})


def test_the_first_model_is_the_default() -> None:
    policy = RoutingPolicy.model_validate({"models": {"digits": {"champion": 1}, "cats": {"champion": 1}}})
    assert policy.default == "digits"
    assert RoutingPolicy().default is None
