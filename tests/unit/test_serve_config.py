from pathlib import Path
from typing import Any

import pytest

from jobs.config_check import check
from jobs.serve_config import ServeConfig, replace_text
from models.errors import Conflict, InvalidConfig, ModelNotFound, VersionNotFound

SHIPPED = Path(__file__).parents[2] / "serve_config.yaml"


@pytest.fixture
def config() -> ServeConfig:
    return ServeConfig.read(SHIPPED)


def comments(config: ServeConfig) -> list[str]:
    return [line.partition("#")[2] for line in config.text.splitlines() if "#" in line]


def test_the_shipped_file_is_right_and_survives_a_round_trip(config: ServeConfig) -> None:
    check(config)
    assert config.text == SHIPPED.read_text()
    assert config.copy().text == SHIPPED.read_text()


def test_a_first_version_becomes_champion_and_a_later_one_waits(config: ServeConfig) -> None:
    changed = config.copy()
    changed.add_version("cats", 4, "models/store", None)
    changed.add_version("cats", 5, "models/store", "onnx")
    check(changed)
    assert changed.policy.models["cats"].champion == 4
    assert changed.policy.models["cats"].challengers == {5: 0.0}
    diff = [line for line in config.diff(changed, "f").splitlines()[2:] if line[0] in "+-"]
    assert all(line.startswith("+") for line in diff), "nothing else is touched"
    assert comments(changed) == comments(config)


def test_adding_what_is_there_changes_nothing(config: ServeConfig) -> None:
    changed = config.copy()
    changed.add_version("digits", 2, "models/store", None)
    assert config.diff(changed, "f") == ""


def test_adding_what_is_there_otherwise_is_refused(config: ServeConfig) -> None:
    with pytest.raises(Conflict, match="digits version 1 is deployed with other args"):
        config.add_version("digits", 1, "models/store", "savedmodel")
    with pytest.raises(Conflict):
        config.add_version("digits", 1, "elsewhere", None)


def test_another_style_of_yaml_shows_in_the_diff(tmp_path: Path) -> None:
    path = tmp_path / "serve_config.yaml"
    path.write_text(SHIPPED.read_text().replace("HeadOnly        #", "'HeadOnly'   #"))
    before = ServeConfig.read(path)
    after = before.copy()
    assert before.diff(after, "f") == ""
    after.add_version("cats", 1, "models/store", None)
    assert "'HeadOnly'" in after.text


def test_a_file_is_replaced_through_links_and_with_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    replace_text(link, "new")
    assert link.is_symlink()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)


def test_removing_a_challenger_keeps_the_rest(config: ServeConfig) -> None:
    config.remove_version("digits", 2)
    check(config)
    assert config.policy.models["digits"].versions == (1,)
    assert [app["name"] for app in config.plain()["applications"]] == ["gateway", "digits-v1"]


def test_removing_a_model_removes_every_trace(config: ServeConfig) -> None:
    config.add_version("cats", 1, "models/store", None)
    config.remove_version("digits", None)
    check(config)
    assert config.policy.default == "cats"
    assert [app["name"] for app in config.plain()["applications"]] == ["gateway", "cats-v1"]


def test_added_and_removed_is_as_before(config: ServeConfig) -> None:
    changed = config.copy()
    changed.add_version("cats", 1, "models/store", None)
    changed.remove_version("cats", 1)
    assert config.diff(changed, "f") == ""


def test_what_cannot_be_removed(config: ServeConfig) -> None:
    with pytest.raises(ModelNotFound, match="'cats' is not deployed; there are: digits"):
        config.remove_version("cats", None)
    with pytest.raises(VersionNotFound, match="digits version 3 is not deployed"):
        config.remove_version("digits", 3)
    with pytest.raises(Conflict, match="digits version 1 is the champion"):
        config.remove_version("digits", 1)


def set_at(config: ServeConfig, path: tuple[Any, ...], value: Any) -> None:
    target = config.data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


ROUTER = ("applications", 0, "deployments", 0, "user_config")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        pytest.param(("applications", 1, "args", "versoin"), 1, "application 'digits-v1', args: versoin", id="typo"),
        pytest.param(("applications", 1, "args", "threads"), 0, "args: threads", id="no threads"),
        pytest.param(("applications", 1, "args", "provider"), "gpu", "args: provider", id="provider"),
        pytest.param(("applications", 0, "args", "request_timeout_s"), "soon", "args: request_timeout_s", id="type"),
        pytest.param(
            ("applications", 1, "deployments", 0, "user_config", "max_batch_size"),
            0,
            "ModelServer user_config: max_batch_size",
            id="batching",
        ),
        pytest.param((*ROUTER, "models", "digits", "challengers", 2), 2.0, "challengers.2", id="share"),
        pytest.param(
            (*ROUTER, "models", "digits", "champion"), 9, "digits version 9 has no application", id="champion"
        ),
        pytest.param((*ROUTER, "default_model"), "cats", "'cats' is not among the models", id="default model"),
        pytest.param(("applications", 1, "import_path"), "deployments.app:gone", "import_path", id="import path"),
        pytest.param(("applications", 1, "deployments", 0, "name"), "Modelserver", "no deployment", id="deployment"),
        pytest.param(("applications", 1, "name"), "gateway", "Found multiple configs", id="duplicate application"),
        pytest.param(("http_options", "port"), "x", "http_options.port", id="port"),
    ],
)
def test_a_mistake_is_named(config: ServeConfig, path: tuple[Any, ...], value: Any, message: str) -> None:
    set_at(config, path, value)
    with pytest.raises(InvalidConfig) as raised:
        check(config)
    assert message in raised.value.message


def test_a_gpu_is_two_settings(config: ServeConfig) -> None:
    """As the README says it."""
    set_at(config, ("applications", 1, "args", "provider"), "cuda")
    set_at(config, ("applications", 1, "args", "artifact"), "onnx-int8")
    options = {"num_cpus": 1, "num_gpus": 1}
    set_at(config, ("applications", 1, "deployments", 0, "ray_actor_options"), options)
    check(config)


@pytest.mark.parametrize("text", ["{", "- a", "applications: 1", "\t- x: ["])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "serve_config.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig):
        ServeConfig.read(path)
    with pytest.raises(InvalidConfig, match="No such file"):
        ServeConfig.read(tmp_path / "gone.yaml")
