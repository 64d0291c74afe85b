"""Where the file names no champion: which versions are live, who answers, and what the commands make of it."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments import app, resolution
from deployments.resolution import Resolution
from deployments.settings import GatewaySettings
from jobs.author import Author
from jobs.change import carry_out
from jobs.config_check import check
from jobs.deploy import plan_deploy, plan_undeploy
from jobs.newcomers import add_missing
from jobs.rollout import plan_challenge, plan_promote, plan_retire, plan_rollback
from jobs.serve_config import ServeConfig
from jobs.version_policy import check_published, plan_live
from models.errors import Conflict, InvalidConfig, ModelUnavailable, TiltyardError, VersionNotFound
from models.policy import DeclaredPolicy, DeclaredRouting, RoutingPolicy, versions_of
from models.rollout import History
from models.store import Store
from tests.tiny import affine, affine_service, floats, lookup, put

AUTHOR = Author("ann", "it is time")


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """Versions 1 to 3 are alike, 4 takes something else."""
    for version in (1, 2, 3):
        put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])}, version=version)
    put(store, "affine", lookup(tmp_path / "lookup.onnx"), {"index": floats([1]).astype("int64")}, version=4)
    return store


def config(store: Store, entry: str) -> Path:
    path = store.root.parent / "serve_config.yaml"
    path.write_text(affine_service(store, entry))
    return path


def live(path: Path) -> tuple[int, ...]:
    """Who answers by a file that is right, champion first."""
    read = ServeConfig.read(path)
    check(read)
    return read.model("affine").versions


def do(change: Any) -> tuple[int, ...]:
    carry_out(change, None, 1, lambda _: None)
    return live(change.path)


@pytest.mark.parametrize(
    ("entry", "published", "expected"),
    [
        pytest.param({}, (1, 2, 10), (10,), id="nothing said"),
        pytest.param({"version_policy": "latest"}, (1, 2), (2,), id="latest"),
        pytest.param({"version_policy": {"latest": {"num_versions": 2}}}, (1, 2, 3), (3, 2), id="latest two"),
        pytest.param({"version_policy": {"latest": {"num_versions": 5}}}, (1, 2), (2, 1), id="fewer than there may be"),
        pytest.param({"version_policy": {"specific": {"versions": [1, 3]}}}, (1, 2, 3), (3, 1), id="specific"),
        pytest.param({"version_policy": "all"}, (1, 2, 3), (3, 2, 1), id="all"),
        pytest.param({"labels": {"stable": 1}}, (1, 2, 3), (3, 1), id="what a label names stays"),
        pytest.param({"champion": 1, "challengers": {2: 0.1}}, (), (1, 2), id="named, whatever runs"),
    ],
)
def test_who_is_live(entry: dict[str, Any], published: tuple[int, ...], expected: tuple[int, ...]) -> None:
    policy = DeclaredPolicy.model_validate(entry).resolved(published)
    assert policy is not None
    assert policy.versions == expected
    assert entry.get("champion") or policy.share(expected[0]) == 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param({"champion": 1, "version_policy": "latest"}, "contradict each other", id="champion and policy"),
        pytest.param({"challengers": {2: 0.1}}, "named by its number", id="a challenger of nobody"),
        pytest.param({"version_policy": {"latest": {}, "all": {}}}, "one of latest, specific and all", id="two"),
        pytest.param({"version_policy": "newest"}, "Extra inputs", id="unknown"),
        pytest.param({"version_policy": {"latest": {"num_versions": 0}}}, "greater than or equal to 1", id="none"),
        pytest.param(
            {"version_policy": {"specific": {"versions": [2]}}, "labels": {"stable": 1}},
            "not among the specific ones",
            id="a label outside",
        ),
    ],
)
def test_contradictions_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DeclaredPolicy.model_validate(entry)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param("{version_policy: {specific: {versions: [2]}}}", "no application runs a version of it", id="none"),
        pytest.param("{labels: {stable: 3}}", "label 'stable': version 3 has no application", id="label"),
        pytest.param("{champion: 1, version_policy: all}", "contradict each other", id="champion and policy"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(filled: Store, entry: str, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        check(ServeConfig.read(config(filled, entry)))


def test_names_of_applications_are_read() -> None:
    assert versions_of(["gateway", "a-v1", "a-v12", "b-v1-v2", "c-v0", "d"]) == {"a": {1, 12}, "b-v1": {2}}


def test_the_newest_takes_over_and_the_former_goes(filled: Store) -> None:
    path = config(filled, "")
    change = plan_live(path, filled, "affine", (1, 2, 3), AUTHOR)
    assert (change.loaded, change.unloaded, change.answering) == ((3,), (1,), (3,))
    assert do(change) == (3,)
    assert ServeConfig.read(path).application("affine", 3)["args"]["threads"] == 2, "set up like the former"
    told = [(event.action, event.version, event.champion) for event in History(filled, "affine").events()]
    assert told == [("deploy", 3, None), ("promote", 3, 3), ("retire", 1, None)]
    assert not plan_live(path, filled, "affine", (1, 2, 3), AUTHOR).diff


def test_a_former_one_that_the_policy_keeps_is_rolled_back_to(filled: Store) -> None:
    path = config(filled, "{version_policy: {latest: {num_versions: 2}}}")
    assert do(plan_live(path, filled, "affine", (1, 2, 3), AUTHOR)) == (3, 2)
    assert do(plan_live(config(filled, "{version_policy: all}"), filled, "affine", (1, 2), AUTHOR)) == (2, 1)
    assert do(plan_rollback(path, "affine", AUTHOR)) == (1, 2)
    entry = ServeConfig.read(path).declared.models["affine"]
    assert (entry.champion, entry.challengers, entry.version_policy) == (1, {2: 0.0}, None)


def test_what_cannot_stand_in_is_refused(filled: Store) -> None:
    with pytest.raises(Conflict, match="its inputs are index, not x"):
        plan_live(config(filled, "{}"), filled, "affine", (1, 4), AUTHOR)


def test_a_champion_that_is_named_stays(filled: Store) -> None:
    with pytest.raises(Conflict, match="the file names version 1 as champion"):
        plan_live(config(filled, "{champion: 1}"), filled, "affine", (1, 2), AUTHOR)


def test_what_is_not_published_is_refused(filled: Store) -> None:
    read = ServeConfig.read(config(filled, "{version_policy: {specific: {versions: [1, 9]}}}"))
    with pytest.raises(VersionNotFound, match="version_policy: affine version 9 is not published"):
        check_published(read, "affine", filled.versions("affine"))


def test_who_challenges_names_the_champion(filled: Store) -> None:
    path = config(filled, "{version_policy: latest, ramp: {}}")
    assert do(plan_challenge(path, "affine", 2, AUTHOR, share=0.1)) == (1, 2)
    entry = ServeConfig.read(path).declared.models["affine"]
    assert (entry.champion, entry.challengers, entry.version_policy) == (1, {2: 0.1}, None)
    assert entry.ramp is not None


def test_promoting_and_retiring_name_the_champion(filled: Store) -> None:
    path = config(filled, "{version_policy: all}")
    do(plan_live(path, filled, "affine", (1, 2, 3), AUTHOR))
    assert do(plan_promote(path, "affine", 1, AUTHOR)) == (1, 2, 3)
    assert do(plan_retire(path, "affine", 3, AUTHOR)) == (1, 2)
    path = config(filled, "{version_policy: all}")
    do(plan_live(path, filled, "affine", (1, 2), AUTHOR))
    with pytest.raises(TiltyardError, match="version 2 is the champion"):
        plan_undeploy(path, "affine", 2)
    assert do(plan_deploy(path, filled, "affine", 3, None)) == (2, 1, 3)


def test_a_model_is_deployed_and_undeployed_without_a_policy(filled: Store) -> None:
    path = config(filled, "{champion: 1}")
    before = path.read_text()
    put(filled, "other", affine(filled.root.parent / "o.onnx"), {"x": floats([[1, 2, 3]])})
    carry_out(plan_live(path, filled, "other", (1,), AUTHOR), None, 1, lambda _: None)
    read = ServeConfig.read(path)
    check(read)
    assert (read.model("other").champion, read.declared.open_models) == (1, ("other",))
    assert [(event.action, event.champion) for event in History(filled, "other").events()] == [("deploy", 1)]
    carry_out(plan_undeploy(path, "other", None), None, 1, lambda _: None)
    assert path.read_text() == before


def test_a_file_without_any_version_is_filled_before_it_is_served(filled: Store) -> None:
    path = config(filled, "{version_policy: {specific: {versions: [2, 3]}}}")
    text = path.read_text()
    path.write_text(text[: text.index("  - name: affine-v1")])
    assert [change.loaded for change in add_missing(path)] == [(2, 3)]
    assert live(path) == (3, 2)
    assert add_missing(path) == []


def test_between_the_steps_of_a_change_every_champion_is_named(filled: Store) -> None:
    before = ServeConfig.read(config(filled, "{version_policy: latest}"))
    change = plan_live(config(filled, "{version_policy: latest}"), filled, "affine", (1, 2), AUTHOR)
    loading = change.after.with_applications_of(before).with_routes_of(before)
    assert (loading.names, loading.model("affine").versions) == ({"gateway", "affine-v1", "affine-v2"}, (1,))
    told = change.after.with_applications_of(before)
    assert (told.names, told.model("affine").versions) == ({"gateway", "affine-v1", "affine-v2"}, (2,))


class Applications:
    """Serve applications and what they are doing; a Router that obeys."""

    def __init__(self, **entry: Any) -> None:
        self.statuses: dict[str, str] = {"gateway": "RUNNING"}
        self.told: list[RoutingPolicy] = []
        self.resolution = Resolution(self.told.append, lambda: self.statuses)
        self.resolution.declare(DeclaredRouting.model_validate({"models": {"digits": entry, "cats": {"champion": 7}}}))

    def now(self, **statuses: str) -> tuple[int, ...]:
        """Who answers once the applications of these versions do this, champion first."""
        self.statuses |= {f"digits-{name}": status for name, status in statuses.items()}
        asyncio.run(self.resolution.look())
        assert self.told[-1].models["cats"].champion == 7
        digits = self.told[-1].models.get("digits")
        return digits.versions if digits is not None else ()


def test_a_version_joins_when_it_is_loaded_and_leaves_when_it_is_deleted() -> None:
    made = Applications(version_policy="all")
    assert made.now(v1="NOT_STARTED") == ()
    assert made.told[-1].default == "digits", "no other model answers in its place"
    assert made.now(v1="RUNNING") == (1,)
    assert made.now(v2="DEPLOYING") == (1,)
    assert made.now(v2="DEPLOY_FAILED") == (1,)
    assert made.now(v2="RUNNING") == (2, 1)
    assert made.now(v2="UNHEALTHY", v1="DEPLOYING") == (2, 1), "a replica that is replaced changes nobody's part"
    assert made.now(v1="DELETING") == (2,)
    told = len(made.told)
    assert made.now() == (2,)
    made.statuses = {}
    assert made.now() == (2,), "no controller tells of anything"
    assert len(made.told) == told, "a Router is not told what it knows"


def test_a_router_that_has_just_started_crowns_whom_the_others_obey() -> None:
    assert Applications(version_policy="all").now(v1="RUNNING", v2="UNHEALTHY") == (2, 1)
    assert Applications().now(v1="DEPLOYING") == (1,), "set up anew, or the controller has just recovered"
    assert Applications(version_policy="all").now(v1="RUNNING", v2="DEPLOYING") == (1,)
    assert Applications().now(v1="DEPLOY_FAILED") == ()


def test_one_that_deploys_stands_in_only_until_one_is_loaded() -> None:
    made = Applications(version_policy="all")
    assert made.now(v1="DEPLOYING", v2="DEPLOYING") == (2, 1)
    assert made.now(v1="RUNNING") == (1,)
    assert made.now(v2="DEPLOY_FAILED") == (1,)
    assert made.now(v1="DEPLOYING", v2="DELETING") == (1,)


def test_a_version_that_deploys_later_on_does_not_stand_in() -> None:
    made = Applications()
    assert made.now() == ()
    assert made.now(v1="DEPLOYING") == ()


class NoHandle:
    """Of a deployment that nobody asks."""

    def options(self, **_: Any) -> "NoHandle":
        return self


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_router_answers_for_open_models_once_it_is_configured(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def applications() -> dict[str, str]:
        time.sleep(seconds)
        return {"digits-v1": "RUNNING"}

    async def configured() -> float:
        ingress: Any = app.Ingress.__bases__[0]  # without what Ray Serve puts around it, which needs a replica
        made = ingress(GatewaySettings(), NoHandle(), NoHandle())
        began = time.monotonic()
        await made.reconfigure({"models": {"digits": None}})
        took = time.monotonic() - began
        for task in made._tasks:
            task.cancel()
        if seconds:
            with pytest.raises(ModelUnavailable, match="no version of model 'digits' runs yet"):
                made._router.choose("digits")
        else:
            assert made._router.choose("digits").version == 1
        return took

    monkeypatch.setattr(app, "application_statuses", applications)
    monkeypatch.setattr(resolution, "FIRST_LOOK_S", 0.3)
    assert asyncio.run(configured()) < 0.9


def test_without_a_policy_the_newest_answers() -> None:
    made = Applications()
    assert made.now(v1="RUNNING", v2="RUNNING") == (2,)


def test_a_champion_that_was_named_stays_until_somebody_looked() -> None:
    made = Applications(champion=1)
    made.resolution.declare(DeclaredRouting.model_validate({"models": {"digits": None, "cats": {"champion": 7}}}))
    assert made.told[-1].models["digits"].versions == (1,)
    assert made.now(v1="RUNNING", v2="RUNNING") == (2,)
