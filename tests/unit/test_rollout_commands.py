"""The commands that change who answers, without a service."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.author import Author
from jobs.change import Change, carry_out
from jobs.cli import app
from jobs.memory import REPLICA_BYTES, needed_bytes
from jobs.rollout import (
    parse_weights,
    plan_challenge,
    plan_promote,
    plan_retire,
    plan_rollback,
    plan_weights,
)
from jobs.rollout_status import parts_of
from jobs.serve_config import ServeConfig
from models.errors import Conflict, InvalidConfig, InvalidRequest, ModelNotFound, TiltyardError, VersionNotFound
from models.policy import ModelPolicy
from models.rollout import Event, History
from models.store import Store
from tests.tiny import affine, floats, lookup, put

YAML = """\
# ours
applications:
  - name: gateway
    route_prefix: /
    import_path: deployments.app:gateway
    args: {store: STORE}
    deployments:
      - name: Router
        user_config:
          models:
            affine:
              champion: 1       # the first one
              challengers:      # who wants to be
                2: 0.1          # the next one
          # after the models
  # one application per version
  - name: affine-v1
    route_prefix: null
    import_path: deployments.app:model_version
    args: {model: affine, version: 1, store: STORE, threads: 2}
    deployments:
      - name: ModelServer
        autoscaling_config: {min_replicas: 2, max_replicas: 3}
  # the second
  - name: affine-v2
    route_prefix: null
    import_path: deployments.app:model_version
    args: {model: affine, version: 2, store: STORE}
  # the end
"""
AUTHOR = Author("ann", "it is time")


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """Versions 1 to 3 are alike, 4 takes something else, 5 has labels."""
    model, golden = affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])}
    for version in (1, 2, 3):
        put(store, "affine", model, golden, version=version)
    put(store, "affine", lookup(tmp_path / "lookup.onnx"), {"index": floats([1]).astype("int64")}, version=4)
    put(store, "affine", model, golden, version=5, labels=("a", "b", "c"))
    return store


@pytest.fixture
def config(filled: Store, tmp_path: Path) -> Path:
    path = tmp_path / "serve_config.yaml"
    path.write_text(YAML.replace("STORE", str(filled.root)))
    return path


def do(change: Change) -> ModelPolicy:
    carry_out(change, None, 1, lambda _: None)
    return ServeConfig.read(change.path).model("affine")


def challenge(path: Path, version: int, share: float = 0.1, **more: Any) -> Change:
    return plan_challenge(path, "affine", version, AUTHOR, share=share, **more)


def diff_lines(change: Change) -> list[str]:
    return [line for line in change.diff.splitlines()[2:] if line[0] in "+-"]


def test_a_challenge_adds_a_version_like_the_champion(config: Path, filled: Store) -> None:
    change = challenge(config, 3, 0.2)
    assert diff_lines(change) == [
        "+                3: 0.2",
        "+  - name: affine-v3",
        "+    route_prefix: null",
        "+    import_path: deployments.app:model_version",
        "+    args:",
        "+      model: affine",
        "+      version: 3",
        f"+      store: {filled.root}",
        "+      threads: 2",
        "+    deployments:",
        "+      - name: ModelServer",
        "+        autoscaling_config: {min_replicas: 2, max_replicas: 3}",
    ]
    assert (change.loaded, change.unloaded, change.answering) == ((3,), (), (3,))
    assert needed_bytes(change) == 2 * (REPLICA_BYTES + (filled.directory("affine", 3) / "model.onnx").stat().st_size)
    assert do(change).challengers == {2: 0.1, 3: 0.2}


def test_a_version_changes_its_part_without_a_restart(config: Path) -> None:
    change = challenge(config, 2, 0.3, role="shadows")
    assert (change.loaded, change.unloaded) == ((), ())
    policy = do(change)
    assert (policy.challengers, policy.shadows) == ({}, {2: 0.3})
    policy = do(challenge(config, 2, 0.4))
    assert (policy.challengers, policy.shadows) == ({2: 0.4}, {})
    assert diff_lines(challenge(config, 2, 0.5)) == ["-                2: 0.4", "+                2: 0.5"]


def test_comments_are_kept(config: Path) -> None:
    do(challenge(config, 3))
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(plan_retire(config, "affine", 1, AUTHOR))
    text = config.read_text()
    for comment in ("# ours", "# the first one", "# after the models", "# one application per", "# the second"):
        assert comment in text
    assert text.index("3: 0.1") < text.index("# after the models") < text.index("# one application per")
    assert text.index("# the second") < text.index("- name: affine-v2")


def test_the_former_champion_stays_warm_and_comes_back(config: Path, filled: Store) -> None:
    promoted = do(plan_promote(config, "affine", 2, AUTHOR))
    assert (promoted.champion, promoted.challengers) == (2, {1: 0.0})
    back = do(plan_rollback(config, "affine", AUTHOR))
    assert (back.champion, back.challengers) == (1, {2: 0.0})
    with pytest.raises(Conflict, match="nothing to roll back"):
        plan_rollback(config, "affine", AUTHOR)
    told = [(event.action, event.version, event.champion, event.by) for event in History(filled, "affine").events()]
    assert told == [("promote", 2, 2, "ann"), ("rollback", 2, 1, "ann")]


def test_each_rollback_goes_back_one_promotion_more(config: Path) -> None:
    do(challenge(config, 3, 0.0))
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(plan_promote(config, "affine", 3, AUTHOR))
    assert do(plan_rollback(config, "affine", AUTHOR)).champion == 2
    assert do(plan_rollback(config, "affine", AUTHOR)).champion == 1


def test_challengers_with_traffic_lose_it_first(config: Path, filled: Store) -> None:
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(challenge(config, 3, 0.2))
    policy = do(plan_rollback(config, "affine", AUTHOR))
    assert (policy.champion, policy.challengers) == (2, {1: 0.0, 3: 0.0})
    assert do(plan_rollback(config, "affine", AUTHOR)).champion == 1


def test_a_promotion_is_taken_back_before_the_traffic_that_others_had_already(config: Path) -> None:
    do(challenge(config, 3, 0.2))
    do(plan_weights(config, "affine", {2: 0.1}, AUTHOR))
    do(plan_promote(config, "affine", 2, AUTHOR))
    policy = do(plan_rollback(config, "affine", AUTHOR))
    assert (policy.champion, policy.challengers) == (1, {2: 0.0, 3: 0.2})
    assert do(plan_rollback(config, "affine", AUTHOR)).challengers == {2: 0.0, 3: 0.0}


def test_where_the_former_champion_is_gone_challengers_lose_their_traffic(config: Path) -> None:
    do(challenge(config, 3, 0.2))
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(plan_retire(config, "affine", 1, AUTHOR))
    assert do(plan_rollback(config, "affine", AUTHOR)).challengers == {3: 0.0}


def test_after_an_edit_of_the_champion_challengers_lose_their_traffic(config: Path) -> None:
    do(challenge(config, 3, 0.2))
    do(plan_promote(config, "affine", 2, AUTHOR))
    text = config.read_text()
    config.write_text(text.replace("champion: 2", "champion: 1").replace("1: 0.0", "2: 0.0"))
    assert do(plan_rollback(config, "affine", AUTHOR)).challengers == {2: 0.0, 3: 0.0}


def test_a_challenger_that_was_stopped_has_no_traffic_to_lose(config: Path, filled: Store) -> None:
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(challenge(config, 3, 0.2))
    History(filled, "affine").append(Event(model="affine", version=3, action="rollback", by="referee", share=0.0))
    assert do(plan_rollback(config, "affine", AUTHOR)).champion == 1


def test_naming_a_stopped_challenger_starts_it_again(config: Path, filled: Store) -> None:
    History(filled, "affine").append(
        Event(model="affine", version=2, action="rollback", by="referee", share=0.0, because="errors")
    )
    change = challenge(config, 2, 0.1)
    assert change.diff == ""
    assert parts_of(change.before, "affine")[1].stopped_because == "errors"
    do(change)
    assert parts_of(change.after, "affine")[1].share == 0.1


def test_a_version_that_is_retired_leaves_nothing_but_its_history(config: Path, filled: Store) -> None:
    before = config.read_text()
    do(challenge(config, 3))
    change = plan_retire(config, "affine", 3, AUTHOR)
    assert (change.loaded, change.unloaded) == ((), (3,))
    do(change)
    assert config.read_text() == before
    assert [event.action for event in History(filled, "affine").events()] == ["challenge", "retire"]


def test_a_promoted_shadow_is_no_shadow(config: Path) -> None:
    do(challenge(config, 2, 0.3, role="shadows"))
    policy = do(plan_promote(config, "affine", 2, AUTHOR))
    assert (policy.champion, policy.challengers, policy.shadows) == (2, {1: 0.0}, {})


def label(config: Path, name: str, version: int) -> None:
    config.write_text(
        config.read_text().replace("champion: 1", f"labels: {{{name}: {version}}}\n              champion: 1")
    )


Plan = Callable[[Path], Change]


@pytest.mark.parametrize(
    ("plan", "kind", "why"),
    [
        pytest.param(lambda p: plan_challenge(p, "cats", 1, AUTHOR, share=0), ModelNotFound, "'cats'", id="model"),
        pytest.param(lambda p: challenge(p, 9), VersionNotFound, "no version 9; there are: 1, 2", id="unpublished"),
        pytest.param(lambda p: challenge(p, 1), Conflict, "1 is the champion", id="champion challenges"),
        pytest.param(lambda p: challenge(p, 3, 0.95), InvalidConfig, "add up to 1.05", id="sum of a challenge"),
        pytest.param(lambda p: challenge(p, 3, -0.1), InvalidConfig, "challengers.3", id="negative share"),
        pytest.param(lambda p: challenge(p, 3, 2, role="shadows"), InvalidConfig, "shadows.3", id="sample"),
        pytest.param(lambda p: challenge(p, 4), Conflict, "its inputs are index, not x", id="signature"),
        pytest.param(lambda p: challenge(p, 4, role="shadows"), Conflict, "inputs are index", id="shadow"),
        pytest.param(lambda p: challenge(p, 5), Conflict, "has labels, unlike the champion", id="labels"),
        pytest.param(lambda p: challenge(p, 3, artifact="onnx-int8"), InvalidRequest, "no artifact", id="artifact"),
        pytest.param(lambda p: plan_promote(p, "affine", 1, AUTHOR), Conflict, "champion already", id="promoted"),
        pytest.param(lambda p: plan_promote(p, "affine", 3, AUTHOR), VersionNotFound, "is not", id="absent"),
        pytest.param(lambda p: plan_retire(p, "affine", 1, AUTHOR), Conflict, "promote another", id="retired champion"),
        pytest.param(lambda p: plan_retire(p, "affine", 3, AUTHOR), VersionNotFound, "not deployed", id="no version"),
        pytest.param(lambda p: plan_weights(p, "affine", {1: 0.5}, AUTHOR), Conflict, "the champion", id="its weight"),
        pytest.param(lambda p: plan_weights(p, "affine", {3: 0.5}, AUTHOR), VersionNotFound, "3 is", id="no weight"),
        pytest.param(lambda p: plan_weights(p, "affine", {2: 1.5}, AUTHOR), InvalidConfig, "rs.2", id="weight"),
        pytest.param(lambda p: plan_weights(p, "affine", {2: float("nan")}, AUTHOR), InvalidConfig, ".2", id="NaN"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    config: Path, filled: Store, plan: Plan, kind: type[TiltyardError], why: str
) -> None:
    before = config.read_text()
    with pytest.raises(kind) as raised:
        plan(config)
    assert why in raised.value.message
    assert config.read_text() == before
    assert not History(filled, "affine").path.exists()


def test_weights_are_checked_as_a_whole(config: Path) -> None:
    do(challenge(config, 3, 0.5))
    assert do(plan_weights(config, "affine", {2: 0.6, 3: 0.4}, AUTHOR)).challengers == {2: 0.6, 3: 0.4}
    with pytest.raises(InvalidConfig, match="add up to 1.1"):
        plan_weights(config, "affine", {2: 0.7}, AUTHOR)


def test_what_a_label_names_is_not_retired(config: Path) -> None:
    label(config, "canary", 2)
    with pytest.raises(Conflict, match="what the label 'canary' names"):
        plan_retire(config, "affine", 2, AUTHOR)


def test_a_version_of_another_kind_is_not_promoted(config: Path, filled: Store) -> None:
    """`deploy` may load any version without traffic."""
    text = config.read_text()
    text = text.replace("2: 0.1 ", "4: 0.0 ").replace("affine-v2", "affine-v4").replace("version: 2", "version: 4")
    config.write_text(text)
    with pytest.raises(Conflict, match="version 4 cannot answer in place of version 1"):
        plan_promote(config, "affine", 4, AUTHOR)
    with pytest.raises(Conflict, match="version 4 cannot answer in place of version 1"):
        plan_weights(config, "affine", {4: 1}, AUTHOR)


def test_a_rollback_to_what_is_gone_says_so(config: Path) -> None:
    do(plan_promote(config, "affine", 2, AUTHOR))
    do(plan_retire(config, "affine", 1, AUTHOR))
    with pytest.raises(Conflict, match="version 1, the former champion, was retired"):
        plan_rollback(config, "affine", AUTHOR)


def test_a_rollback_after_an_edit_by_hand_says_so(config: Path) -> None:
    do(challenge(config, 3, 0.0))
    do(plan_promote(config, "affine", 2, AUTHOR))
    text = config.read_text()
    config.write_text(text.replace("champion: 2", "champion: 3").replace("3: 0.0", "2: 0.0"))
    with pytest.raises(Conflict, match="somebody edited the file"):
        plan_rollback(config, "affine", AUTHOR)


def test_a_history_that_cannot_be_written_stops_a_rollout(config: Path, filled: Store) -> None:
    History(filled, "affine").path.mkdir()
    change, before = plan_weights(config, "affine", {2: 0.2}, AUTHOR), config.read_text()
    with pytest.raises(TiltyardError, match="history of affine cannot be written"):
        do(change)
    assert config.read_text() == before


@pytest.mark.parametrize("text", ["2", "2=", "=0.1", "two=0.1", "2=much"])
def test_weights_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected VERSION=SHARE"):
        parse_weights([text])


def test_a_version_has_one_weight() -> None:
    assert parse_weights(["2=0.1", "3=.5"]) == {2: 0.1, 3: 0.5}
    with pytest.raises(InvalidRequest, match="two shares"):
        parse_weights(["2=0.1", "2=0.2"])


def invoke(config: Path, *arguments: str) -> Any:
    options = ["--file", str(config)]
    if arguments[0] not in ("history",):
        options += ["--address", "http://127.0.0.1:9"]
    return CliRunner().invoke(app, [*arguments, *options], catch_exceptions=True, env={"COLUMNS": "200"})


COMMANDS: Mapping[str, tuple[str, ...]] = {
    "challenge": ("challenge", "affine", "3", "--weight", "0.2"),
    "shadow": ("challenge", "affine", "3", "--shadow"),
    "weights": ("weights", "affine", "2=0.3"),
    "promote": ("promote", "affine", "2"),
    "rollback": ("rollback", "affine"),
    "retire": ("retire", "affine", "2"),
    "deploy": ("deploy", "affine@3"),
    "undeploy": ("undeploy", "affine"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_dry_run_changes_no_byte(config: Path, filled: Store, command: tuple[str, ...]) -> None:
    History(filled, "affine").append(Event(model="affine", version=1, action="deploy", by="ann", champion=1))
    store = ("--store", str(filled.root)) if command[0] == "deploy" else ()
    files = [path for path in config.parent.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    done = invoke(config, *command, *store, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "--- serve_config.yaml" in done.stdout
    assert {path: path.read_bytes() for path in config.parent.rglob("*") if path.is_file()} == before


def test_a_dry_run_tells_what_it_would_take(config: Path) -> None:
    shown = invoke(config, "challenge", "affine", "3", "--dry-run").stdout
    assert "Loaded: version 3." in shown
    assert "Memory: about 246 MiB are needed (an estimate)" in shown
    assert "5.00%" in shown, "the share where none is given"


@pytest.mark.parametrize("name", ["challenge", "shadow", "weights", "promote", "rollback", "retire"])
def test_json_is_one_object(config: Path, name: str) -> None:
    done = invoke(config, *COMMANDS[name], "--json", "--because", "a test", "--by", "api")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["model"], answer["dry_run"], answer["applied"]) == ("affine", False, False)
    assert answer["diff"].startswith("--- serve_config.yaml")
    assert answer["before"] != answer["after"]
    events = json.loads(invoke(config, "history", "affine", "--json").stdout)["events"]
    assert [(event["by"], event["because"]) for event in events] == [("api", "a test")]


def test_history_and_status_are_printed(config: Path) -> None:
    assert "Nothing was decided about affine yet." in invoke(config, "history", "affine").stdout
    invoke(config, "weights", "affine", "2=0.3", "--because", "it does well")
    assert "it does well" in invoke(config, "history", "affine").stdout
    shown = invoke(config, "status", "affine").stdout
    assert "30.00%" in shown
    assert "No service runs at http://127.0.0.1:9." in shown
    assert json.loads(invoke(config, "status", "--json").stdout)["running"] is False


@pytest.mark.parametrize(
    ("options", "why"),
    [(("--shadow", "--weight", "0.1"), "--weight"), (("--sample", "0.1"), "--sample")],
    ids=["weight of a shadow", "sample of a challenger"],
)
def test_options_that_contradict_are_refused(config: Path, options: tuple[str, ...], why: str) -> None:
    done = invoke(config, "challenge", "affine", "3", *options)
    assert isinstance(done.exception, InvalidRequest)
    assert why in done.exception.message
