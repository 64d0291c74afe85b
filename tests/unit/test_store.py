import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from models.errors import InvalidManifest, InvalidRequest, InvalidVersion, ModelNotFound, VersionExists, VersionNotFound
from models.store import Store
from models.version import load_version
from tests.tiny import affine, floats, put

GOLDEN = {"x": floats([[1, 2, 3]])}

# Publishes one version of `affine` and kills itself at the N-th file-system call that Python audits.
PUBLISH_AND_DIE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from models.store import Store
from tests.tiny import affine, put
root, source, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0
def count(event, arguments):
    global calls
    if event != "fcntl.flock" and str(root) not in str(arguments):
        return
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
put(Store(root), "affine", source, {"x": np.float32([[1, 2, 3]])})
print(calls)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return affine(tmp_path / "affine.onnx")


def publish_and_die(store: Store, source: Path, call: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PUBLISH_AND_DIE, str(store.root), str(source), str(call)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


def test_versions_are_numbered_in_order(store: Store, source: Path) -> None:
    assert [put(store, "affine", source, GOLDEN).manifest.version for _ in range(3)] == [1, 2, 3]
    assert store.models() == ["affine"]
    assert store.versions("affine") == [1, 2, 3]
    assert store.latest("affine") == 3


def test_a_published_number_is_taken(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN, version=7)
    before = (store.directory("affine", 7) / "manifest.json").read_bytes()
    with pytest.raises(VersionExists, match="affine version 7"):
        put(store, "affine", source, GOLDEN, version=7)
    assert (store.directory("affine", 7) / "manifest.json").read_bytes() == before
    assert put(store, "affine", source, GOLDEN).manifest.version == 8


def test_a_number_that_something_else_stands_under_is_passed_over(store: Store, source: Path) -> None:
    (store.root / "affine" / "1").mkdir(parents=True)
    (store.root / "affine" / "1" / "junk").write_text("")
    (store.root / "affine" / "2").write_text("")
    assert put(store, "affine", source, GOLDEN).manifest.version == 3


def test_a_publisher_that_dies_anywhere_leaves_no_half_version(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN)
    alive = publish_and_die(store, source, 10**9)
    assert alive.returncode == 0, alive.stderr
    calls = int(alive.stdout)
    points = sorted({round(1 + (calls - 1) * step / 11) for step in range(12)})
    assert len(points) >= 10
    for point in points:
        died = publish_and_die(store, source, point)
        assert died.returncode == -signal.SIGKILL, died.stderr
        for version in store.versions("affine"):
            load_version(store, "affine", version)
    published = store.versions("affine")
    assert put(store, "affine", source, GOLDEN).manifest.version == published[-1] + 1
    assert not list(store.root.glob("affine/.staging-*")), "what the dead left is removed by the next publisher"


def test_publishers_at_once_get_different_versions(store: Store, source: Path) -> None:
    threads = [threading.Thread(target=put, args=(store, "affine", source, GOLDEN)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.versions("affine") == list(range(1, 9))
    for version in store.versions("affine"):
        assert load_version(store, "affine", version).manifest.version == version


def test_staging_of_a_living_publisher_is_left_alone(store: Store, source: Path) -> None:
    with store.stage("affine") as staging:
        put(store, "affine", source, GOLDEN)
        assert staging.is_dir()


def test_what_is_not_committed_is_removed(store: Store) -> None:
    with store.stage("affine") as staging:
        (staging / "half").write_text("")
    assert store.models() == []
    assert not list((store.root / "affine").iterdir())


def test_a_changed_artifact_is_not_loaded(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN)
    path = store.directory("affine", 1) / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InvalidVersion, match=r"affine version 1: artifact onnx .* has changed"):
        load_version(store, "affine", 1)


def test_published_files_are_read_only(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN)
    files = [path for path in store.directory("affine", 1).rglob("*") if path.is_file()]
    assert files
    assert all(os.stat(path).st_mode & 0o222 == 0 for path in files)


def test_what_is_not_there_is_said_with_what_is(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN)
    with pytest.raises(ModelNotFound, match="no model 'cats' in the store; there are: affine"):
        store.latest("cats")
    with pytest.raises(VersionNotFound, match="no version 4; there are: 1"):
        store.directory("affine", 4)


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "a b", "a\n", "x" * 64])
def test_names_that_could_leave_the_store_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequest):
        store.versions(name)


def test_directories_that_are_no_versions_are_not_listed(store: Store, source: Path) -> None:
    put(store, "affine", source, GOLDEN)
    for name in ("2", "03", "latest", ".staging-old"):
        (store.root / "affine" / name).mkdir()
    assert store.versions("affine") == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"chosen": "savedmodel"}, "'savedmodel' is not among the artifacts", id="chosen is missing"),
        pytest.param({"schema_version": 2}, "schema_version", id="a newer schema"),
        pytest.param({"signature": None}, "signature", id="no signature"),
    ],
)
def test_a_bad_manifest_names_the_field(store: Store, source: Path, change: dict[str, object], message: str) -> None:
    put(store, "affine", source, GOLDEN)
    path = store.directory("affine", 1) / "manifest.json"
    path.chmod(0o644)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidManifest, match=message):
        store.manifest("affine", 1)
