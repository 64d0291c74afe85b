import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.change import alone, carry_out
from jobs.deploy import plan_deploy, plan_undeploy
from models.errors import Conflict, DeployFailed, InvalidConfig
from models.rollout import History
from models.store import Store
from tests.tiny import affine, floats, put, shipped_config


@pytest.fixture
def config(tmp_path: Path, store: Store) -> Path:
    return shipped_config(tmp_path, store)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    return store


def test_deployed_and_undeployed_is_as_before(config: Path, filled: Store) -> None:
    before = config.read_text()
    carry_out(plan_deploy(config, filled, "affine", 1, "onnx"), None, 1, lambda _: None)
    assert f"store: {filled.root}" in config.read_text()
    assert "artifact: onnx" in config.read_text()
    carry_out(plan_undeploy(config, "affine", None), None, 1, lambda _: None)
    assert config.read_text() == before
    told = [(event.action, event.version, event.champion) for event in History(filled, "affine").events()]
    assert told == [("deploy", 1, 1), ("undeploy", 1, None)]


def test_a_plan_writes_nothing(config: Path, filled: Store) -> None:
    before = config.read_text()
    assert "+  - name: affine-v1" in plan_deploy(config, filled, "affine", 1, None).diff
    assert config.read_text() == before


def test_a_file_that_changed_meanwhile_is_not_overwritten(config: Path, filled: Store) -> None:
    change = plan_deploy(config, filled, "affine", 1, None)
    config.write_text(config.read_text().replace("port: 8000", "port: 8001"))
    with pytest.raises(Conflict, match="changed by somebody else"):
        carry_out(change, None, 1, lambda _: None)
    assert "port: 8001" in config.read_text()


def test_two_commands_do_not_change_a_file_at_once(config: Path) -> None:
    with alone(config), pytest.raises(Conflict, match="another command is changing"), alone(config):
        raise AssertionError


def test_a_file_that_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="No such file"), alone(tmp_path / "nowhere" / "serve_config.yaml"):
        raise AssertionError


def test_a_file_that_cannot_be_put_back_is_told(
    config: Path, filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    config = Path(shutil.copy(config, own))
    change = plan_deploy(config, filled, "affine", 1, None)

    def fail(*arguments: Any) -> None:
        shutil.rmtree(own)
        raise Conflict("no history")

    monkeypatch.setattr("jobs.change.record", fail)
    with pytest.raises(DeployFailed, match="no history. serve_config.yaml is not as before: .* cannot be written"):
        carry_out(change, None, 1, lambda _: None)
