"""With real processes, started as a raylet starts them; in place of Ray's worker they tell what they are."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments.fork_client import hand_over
from jobs.serve import STARTUP

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks for Ray")

WORKER = """
import sys
imported = sorted({"ray", "ray.serve", "deployments.app", "tensorflow"} & set(sys.modules))
import json, os, random, signal, numpy, ray
print(json.dumps({
    "imported": imported, "name": __name__, "arguments": sys.argv, "path": sys.path[0], "directory": os.getcwd(),
    "job": os.environ.get("RAY_JOB_ID"), "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0),
    "session": os.getsid(0), "child_signal": str(signal.getsignal(signal.SIGCHLD)),
    "descriptors": sorted(os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if int(each) > 2
        if os.path.exists(f"/proc/self/fd/{each}")),
    "drawn": [ray.WorkerID.from_random().hex(), random.random(), float(numpy.random.random())],
}))
"""
ALL = ["deployments.app", "ray", "ray.serve"]
IN_SERVER = "import sys\nif 'deployments.fork_server' in sys.orig_argv:\n    "
TIMEOUT_S = 60.0


def until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Raylet:
    """A process in the place of a raylet, and where it and its workers are."""

    root: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    starts: int = 0

    @property
    def socket(self) -> Path:
        return self.root / "raylet"

    @property
    def refused(self) -> Path:
        return self.root / "raylet.fork.refused"

    def start(self, **environment: str) -> dict[str, Any]:
        """What a process says that was started for a worker."""
        self.starts += 1
        script, output = self.root / "default_worker.py", self.root / f"{self.starts}.txt"
        script.write_text(WORKER)
        path = os.pathsep.join([str(STARTUP), str(self.root / "elsewhere")])
        defaults = {"TILTYARD_FORK_SERVER": "1", "PYTHONPATH": path, "RAY_RAYLET_PID": str(self.process.pid)}
        with output.open("wb") as file:
            started = subprocess.Popen(
                [sys.executable, str(script), f"--raylet-name={self.socket}", str(self.starts)],
                env={**self.environment, **defaults, **environment},
                cwd=self.root,
                stdout=file,
            )
            assert started.wait(TIMEOUT_S) == 0
        until(lambda: output.read_bytes().endswith(b"\n"))
        return {"started": started.pid, **json.loads(output.read_text())}

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def beside(self, sitecustomize: str) -> None:
        """Have every process run some lines at first."""
        (self.root / "elsewhere").mkdir()
        (self.root / "elsewhere" / "sitecustomize.py").write_text(sitecustomize)


def a_raylet(root: Path) -> Iterator[Raylet]:
    raylet = Raylet(root, subprocess.Popen(["sleep", "600"]), dict(os.environ))  # pytest changes it for each test
    try:
        yield raylet
    finally:
        raylet.stop()


@pytest.fixture
def raylet(tmp_path: Path) -> Iterator[Raylet]:
    yield from a_raylet(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Raylet]:
    yield from a_raylet(tmp_path_factory.mktemp("raylet"))


def is_forked(said: dict[str, Any]) -> bool:
    return bool(said["pid"] != said["started"])


def ends(pid: int) -> Callable[[], bool]:
    def has_ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    return has_ended


def test_a_fork_has_everything_imported_and_is_otherwise_as_it_was_started(shared: Raylet) -> None:
    said = shared.start(RAY_JOB_ID="7")
    assert is_forked(said)
    assert said["imported"] == ALL
    assert (said["name"], said["job"]) == ("__main__", "7")
    assert said["arguments"][1:] == [f"--raylet-name={shared.socket}", str(shared.starts)]
    assert said["path"] == said["directory"] == str(shared.root)
    assert "RAY_JOB_ID" not in os.environ
    assert shared.start()["job"] is None


def test_forks_share_no_randomness(shared: Raylet) -> None:
    forks = [shared.start() for _ in range(3)]
    assert all(is_forked(each) for each in forks)
    drawn = [each["drawn"] for each in forks]
    for kind in zip(*drawn, strict=True):
        assert len(set(kind)) == len(drawn)


def test_forks_are_of_one_server_which_shares_nothing_with_them_but_its_session(shared: Raylet) -> None:
    one, other = shared.start(), shared.start()
    assert is_forked(one)
    server = one["parent"]
    assert other["parent"] == server
    assert one["group"] == one["pid"]
    assert os.getpgid(server) == server
    assert one["session"] == os.getsid(server) == os.getsid(0)
    assert one["child_signal"] == str(signal.SIG_DFL)
    assert not [each for each in one["descriptors"] if "socket" in each or "raylet" in each or "pidfd" in each]
    until(ends(one["pid"]))


def test_who_has_another_environment_starts_by_itself(shared: Raylet) -> None:
    said = shared.start(OMP_NUM_THREADS="3")
    assert not is_forked(said)
    assert said["imported"] == []
    assert not is_forked(shared.start(TILTYARD_FORK_SERVER="0"))


def test_a_server_that_was_killed_is_started_anew(raylet: Raylet) -> None:
    server = raylet.start()["parent"]
    os.kill(server, signal.SIGKILL)
    until(ends(server))
    said = raylet.start()
    assert is_forked(said)
    assert said["parent"] != server


def test_the_server_ends_with_its_raylet(raylet: Raylet) -> None:
    server = raylet.start()["parent"]
    assert not ends(server)()
    raylet.stop()
    until(ends(server))


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ("sys.modules['ray'] = None", "ModuleNotFoundError"),
        ("import ray; ray.WorkerID.from_random()", "identifiers"),
        ("import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "thread"),
    ],
    ids=["an import fails", "the generator is seeded", "a thread runs"],
)
def test_where_forks_would_not_do_processes_start_by_themselves(raylet: Raylet, beside: str, reason: str) -> None:
    raylet.beside(IN_SERVER + beside)
    for _ in range(2):
        assert not is_forked(raylet.start())
    assert reason in raylet.refused.read_text()


@pytest.mark.parametrize(
    "command",
    [["python"], ["python", "train.py"], ["python", "-u", "/ray/dashboard.py"], ["python", "/ray/default_worker.py"]],
    ids=lambda command: " ".join(command),
)
def test_what_is_no_worker_of_a_raylet_is_left_alone(command: list[str]) -> None:
    hand_over(command)
