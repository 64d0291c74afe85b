"""What the history says of a file that was edited by hand, and what is refused."""

from pathlib import Path

import pytest

from jobs.apply import check_all, events_between
from jobs.author import Author
from jobs.serve_config import ServeConfig
from models.errors import Conflict, InvalidConfig
from models.policy import ModelPolicy
from models.store import Store
from tests.tiny import affine, affine_service, floats, lookup, put

AUTHOR = Author("operator", "by hand")


def policy(champion: int, challengers: dict[int, float] | None = None, **more: dict[int, float]) -> ModelPolicy:
    return ModelPolicy.model_validate({"champion": champion, "challengers": challengers or {}, **more})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(policy(1, {2: 0.1}), policy(1, {2: 0.1}), [], id="a guard"),
        pytest.param(policy(1, {2: 0.1}), policy(1, {2: 0.3}), [("weights", 2, 0.3)], id="weight"),
        pytest.param(policy(1), policy(1, {2: 0.3}), [("challenge", 2, 0.3)], id="challenger"),
        pytest.param(policy(1), policy(1, shadows={2: 0.3}), [("shadow", 2, 0.3)], id="shadow"),
        pytest.param(policy(1, {2: 0.1}), policy(1, shadows={2: 0.3}), [("shadow", 2, 0.3)], id="it only watches now"),
        pytest.param(policy(1, {2: 0.1}), policy(1), [("retire", 2, None)], id="gone"),
        pytest.param(policy(1, {2: 0.1}), policy(2, {1: 0.0}), [("promote", 2, None)], id="champion"),
        pytest.param(
            policy(1, {2: 0.1}), policy(2, {1: 0.2}), [("promote", 2, None), ("challenge", 1, 0.2)], id="they change"
        ),
        pytest.param(None, policy(1, {2: 0.1}), [("deploy", 1, 0.9), ("deploy", 2, 0.1)], id="new model"),
        pytest.param(policy(1), None, [("undeploy", 1, None)], id="no model"),
    ],
)
def test_what_changed_by_hand_is_told(
    before: ModelPolicy | None, after: ModelPolicy | None, expected: list[tuple[str, int, float | None]]
) -> None:
    found = events_between(AUTHOR, "digits", before, after)
    assert [(event.action, event.version, event.share) for event in found] == expected
    assert {(event.by, event.because) for event in found} <= {("operator", "by hand")}


def test_a_promotion_by_hand_can_be_rolled_back() -> None:
    (promoted,) = events_between(AUTHOR, "digits", policy(1, {2: 0.1}), policy(2, {1: 0.0}))
    assert (promoted.champion, promoted.evidence) == (2, {"former_champion": 1})


@pytest.mark.parametrize(
    ("entry", "error", "why"),
    [
        ("{champion: 1, guard: {compare: 2}}", InvalidConfig, "guard.compare"),
        ("{champion: 1, challengers: {2: 0.1}}", InvalidConfig, "version 2 has no application"),
    ],
)
def test_a_policy_that_is_none_is_refused(
    store: Store, tmp_path: Path, entry: str, error: type[Exception], why: str
) -> None:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    path = tmp_path / "serve_config.yaml"
    path.write_text(affine_service(store, entry))
    with pytest.raises(error, match=why):
        check_all(ServeConfig.read(path))


def test_who_could_not_stand_in_is_refused_and_may_be_there_without_traffic(store: Store, tmp_path: Path) -> None:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    put(store, "affine", lookup(tmp_path / "lookup.onnx"), {"index": floats([1]).astype("int64")}, version=2)
    path = tmp_path / "serve_config.yaml"

    def with_share(share: float) -> ServeConfig:
        path.write_text(affine_service(store, f"{{champion: 1, challengers: {{2: {share}}}}}"))
        return ServeConfig.read(path).edited(lambda made: made.add_application("affine", 2, str(store.root)))

    check_all(with_share(0.0))
    with pytest.raises(Conflict, match="version 2 cannot answer in place of version 1"):
        check_all(with_share(0.1))
