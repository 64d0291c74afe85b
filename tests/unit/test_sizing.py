from pathlib import Path

import pytest

from jobs.config_check import check
from jobs.frontier import Setting
from jobs.serve_config import ServeConfig
from jobs.sizing import apply_setting, plan_setting, restarts, served_artifact
from models.errors import Conflict, ModelNotFound, VersionNotFound
from models.store import DEFAULT_ROOT, Store
from tests.tiny import affine, floats, put

SHIPPED = Path(__file__).parents[2] / "serve_config.yaml"

HEAD = """applications:
  - name: gateway
    route_prefix: /
    import_path: deployments.app:gateway
    args: {}
    deployments:
      - name: Router
        user_config:
          models:
            affine:
              champion: 1
"""
VERSION = """
  - name: affine-v1
    route_prefix: null
    import_path: deployments.app:model_version
    args:
      model: affine
      version: 1  # the first
      store: STORE
"""


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    put(store, "affine", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    return store


def config(tmp_path: Path, tail: str, store: str = "models/store") -> Path:
    path = tmp_path / "serve_config.yaml"
    path.write_text(HEAD + VERSION.replace("STORE", store) + tail)
    return path


def edited(path: Path, setting: Setting) -> tuple[list[str], list[str]]:
    """Lines that a setting removes and adds."""
    before = ServeConfig.read(path)
    after = before.copy()
    apply_setting(after, "affine", 1, setting)
    check(ServeConfig(after.copy().data))
    lines = [(line[0], line[1:].strip()) for line in before.diff(after, "f").splitlines()[2:]]
    return [line for sign, line in lines if sign == "-"], [line for sign, line in lines if sign == "+"]


SERVER = "    deployments:\n      - name: ModelServer\n"


@pytest.mark.parametrize(
    ("tail", "setting", "removed", "added"),
    [
        pytest.param(
            "",
            Setting(3, 2, 16),
            [],
            [
                "threads: 2",
                "deployments:",
                "- name: ModelServer",
                "autoscaling_config: {min_replicas: 3, max_replicas: 3}",
                "user_config: {max_batch_size: 16}",
            ],
            id="nothing there",
        ),
        pytest.param(
            SERVER + "        autoscaling_config: {min_replicas: 2, max_replicas: 2}\n"
            "        user_config: {max_batch_size: 8}\n",
            Setting(2, 1, 8),
            [],
            [],
            id="as it is",
        ),
        pytest.param(
            SERVER + "        num_replicas: 1  # for now\n        user_config:\n          max_batch_size: 8  # rows\n",
            Setting(2, 1, 4),
            ["num_replicas: 1  # for now", "max_batch_size: 8  # rows"],
            ["num_replicas: 2  # for now", "max_batch_size: 4  # rows"],
            id="num_replicas",
        ),
        pytest.param(
            SERVER + "        num_replicas: auto\n",
            Setting(2, 1, 4),
            [],
            ["autoscaling_config: {min_replicas: 2, max_replicas: 2}", "user_config: {max_batch_size: 4}"],
            id="num_replicas auto",
        ),
        pytest.param(
            SERVER + "        autoscaling_config: {min_replicas: 1, initial_replicas: 1, max_replicas: 8}\n"
            "        user_config: {max_batch_size: 4}\n",
            Setting(2, 1, 4),
            ["autoscaling_config: {min_replicas: 1, initial_replicas: 1, max_replicas: 8}"],
            ["autoscaling_config: {min_replicas: 2, initial_replicas: 2, max_replicas: 2}"],
            id="initial_replicas",
        ),
        pytest.param(
            SERVER + "        num_replicas: 2\n        ray_actor_options: {num_cpus: 2}\n"
            "        user_config: {max_batch_size: 4}\n",
            Setting(2, 2, 4),
            [],
            [],
            id="threads follow num_cpus",
        ),
    ],
)
def test_only_what_must_change_is_written(
    tmp_path: Path, tail: str, setting: Setting, removed: list[str], added: list[str]
) -> None:
    assert edited(config(tmp_path, tail), setting) == (removed, added)


@pytest.mark.parametrize("tail", ["", SERVER, SERVER + "        num_replicas: 1\n"], ids=["bare", "named", "with one"])
def test_comments_below_stay_below(tmp_path: Path, tail: str) -> None:
    after = ServeConfig.read(config(tmp_path, tail + "\n# the end\n"))
    apply_setting(after, "affine", 1, Setting(3, 2, 16))
    assert after.text.endswith("\n# the end\n")
    assert "version: 1  # the first\n" in after.text


def test_sizes_allowed_and_threads_of_batches_follow(tmp_path: Path) -> None:
    tail = SERVER + "        user_config: {max_batch_size: 32, num_batch_threads: 2, allowed_batch_sizes: [1, 8, 32]}\n"
    after = ServeConfig.read(config(tmp_path, tail))
    apply_setting(after, "affine", 1, Setting(1, 1, 16))
    assert "{max_batch_size: 16, num_batch_threads: 1, allowed_batch_sizes: [1, 8, 16]}" in after.text


def test_portions_are_written_and_taken_back(tmp_path: Path) -> None:
    tail = SERVER + "        user_config: {max_batch_size: 32, allowed_batch_sizes: [1, 8, 32]}\n"
    after = ServeConfig.read(config(tmp_path, tail))
    apply_setting(after, "affine", 1, Setting(1, 1, 16), portion=2)
    assert "{max_batch_size: 16, allowed_batch_sizes: [1, 2], max_execution_batch_size: 2}" in after.text
    apply_setting(after, "affine", 1, Setting(1, 1, 16))
    assert "{max_batch_size: 16, allowed_batch_sizes: [1, 2, 16]}" in after.text


def test_the_shipped_file_is_edited_with_its_comments() -> None:
    before = ServeConfig.read(SHIPPED)
    after = before.copy()
    apply_setting(after, "digits", 2, Setting(4, 3, 5))
    check(after)
    assert len(after.text.splitlines()) == len(before.text.splitlines()) + 1
    comments = [line.partition("#")[2] for line in before.text.splitlines()]
    assert [text for text in comments if text] == [
        text for text in (line.partition("#")[2] for line in after.text.splitlines()) if text
    ]


def test_a_change_of_args_restarts(tmp_path: Path, filled: Store) -> None:
    path = config(tmp_path, "", str(filled.root))
    assert restarts(plan_setting(path, filled, "affine", 1, Setting(1, 2, 4)), "affine", 1)
    assert not restarts(plan_setting(path, filled, "affine", 1, Setting(2, 1, 4)), "affine", 1)


def test_what_is_measured_is_what_the_file_serves(tmp_path: Path, filled: Store) -> None:
    path = config(tmp_path, "", str(filled.root) + "\n      artifact: onnx")
    assert served_artifact(path, filled, "affine", 1).artifact == "onnx"


def test_what_cannot_be_tuned(tmp_path: Path, filled: Store) -> None:
    with pytest.raises(Conflict, match=f"another store: give --store {DEFAULT_ROOT}"):
        served_artifact(config(tmp_path, ""), filled, "affine", 1)
    with pytest.raises(VersionNotFound, match="'affine' has no version 2"):
        served_artifact(config(tmp_path, ""), filled, "affine", 2)
    with pytest.raises(ModelNotFound, match="no model 'cats'"):
        served_artifact(config(tmp_path, ""), filled, "cats", 1)
    with pytest.raises(VersionNotFound, match=r"not in serve_config.yaml: `tiltyard deploy affine@1` first"):
        served_artifact(SHIPPED, filled, "affine", 1)


def test_a_version_that_is_not_deployed_can_be_planned(filled: Store) -> None:
    assert served_artifact(SHIPPED, filled, "affine", 1, deployed=False).artifact is None
    diff = plan_setting(SHIPPED, filled, "affine", 1, Setting(2, 1, 4)).diff
    assert "+  - name: affine-v1" in diff
    assert "+        user_config: {max_batch_size: 4}" in diff
