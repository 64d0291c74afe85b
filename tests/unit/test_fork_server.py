"""With real processes, started as a raylet starts them; in place of Ray's worker they tell what they are."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.serve import STARTUP
from tests.processes import is_alive, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks for Ray")

WORKER = """
import sys
imported = sorted({"ray", "ray.serve", "deployments.app", "tensorflow"} & set(sys.modules))
import json, os, random, signal, numpy, ray
print(json.dumps({
    "imported": imported, "name": __name__, "arguments": sys.argv, "path": sys.path[0], "directory": os.getcwd(),
    "job": os.environ.get("RAY_JOB_ID"), "server": os.environ.get("TILTYARD_FORK_SERVER"),
    "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0),
    "session": os.getsid(0), "child_signal": str(signal.getsignal(signal.SIGCHLD)),
    "descriptors": sorted(os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if int(each) > 2
        if os.path.exists(f"/proc/self/fd/{each}")),
    "drawn": [ray.WorkerID.from_random().hex(), random.random(), float(numpy.random.random())],
}))
"""
ALL = ["deployments.app", "ray", "ray.serve"]
IN_SERVER = "import sys\nif 'deployments.fork_server' in sys.orig_argv:\n    "
THREAD = """
import threading, time
def begin():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
SUBREAPER = "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper"
TIMEOUT_S = 60.0


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
    def server(self) -> Path:
        return self.root / "raylet.fork"

    @property
    def refused(self) -> Path:
        return self.root / "raylet.fork.refused"

    def start(self, *flags: str, name: str = "default_worker.py", **environment: str) -> dict[str, Any]:
        """What a process says that was started for a worker."""
        self.starts += 1
        script, output = self.root / name, self.root / f"{self.starts}.txt"
        script.write_text(WORKER)
        path = os.pathsep.join([str(STARTUP), str(self.root / "elsewhere")])
        defaults = {"TILTYARD_FORK_SERVER": "1", "PYTHONPATH": path, "RAY_RAYLET_PID": str(self.process.pid)}
        with output.open("wb") as file:
            started = subprocess.Popen(
                [sys.executable, *flags, str(script), f"--raylet-name={self.socket}", str(self.starts)],
                env={**self.environment, **defaults, **environment},
                cwd=self.root,
                stdout=file,
            )
            assert started.wait(TIMEOUT_S) == 0
        wait_for(lambda: output.read_bytes().endswith(b"\n"), "it says what it is", TIMEOUT_S)
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


def test_a_fork_has_everything_imported_and_is_otherwise_as_it_was_started(shared: Raylet) -> None:
    said = shared.start(RAY_JOB_ID="7")
    assert is_forked(said)
    assert said["imported"] == ALL
    assert (said["name"], said["job"]) == ("__main__", "7")
    assert said["arguments"][1:] == [f"--raylet-name={shared.socket}", str(shared.starts)]
    assert said["path"] == said["directory"] == str(shared.root)
    assert [shared.start(RAY_JOB_ID="8")["job"], shared.start()["job"]] == ["8", None]


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
    wait_for(lambda: not is_alive(one["pid"]), "a fork that is done leaves nothing", TIMEOUT_S)


def test_who_has_another_environment_starts_by_itself(shared: Raylet) -> None:
    said = shared.start(OMP_NUM_THREADS="3")
    assert not is_forked(said)
    assert said["imported"] == []


def test_the_server_has_no_job_of_its_own(shared: Raylet) -> None:
    environment = Path(f"/proc/{shared.start(RAY_JOB_ID='9')['parent']}/environ").read_bytes()
    assert b"\0RAY_JOB_ID=ffffffff\0" in environment


def test_who_asks_for_nothing_or_nonsense_stops_no_server(shared: Raylet) -> None:
    server = shared.start()["parent"]
    for nonsense in (b"", b"\0", b"\0\0\0\2{}", b"\0\0\0\2[]", b"\0\0\1\0short"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(shared.server))
            connection.sendall(nonsense)
    assert shared.start()["parent"] == server


def test_who_gets_no_answer_goes_on_by_itself_and_its_fork_does_not(raylet: Raylet) -> None:
    server = raylet.start()["parent"]
    os.kill(server, signal.SIGSTOP)
    said = raylet.start()
    assert not is_forked(said)
    os.kill(server, signal.SIGCONT)
    assert is_forked(raylet.start())
    assert (raylet.root / f"{raylet.starts - 1}.txt").read_text().count("\n") == 1


def test_flags_before_the_script_are_the_servers_too(raylet: Raylet) -> None:
    said = raylet.start("-s")
    assert is_forked(said)
    assert b"\0-s\0" in Path(f"/proc/{said['parent']}/cmdline").read_bytes()


def test_a_server_that_was_killed_is_started_anew(raylet: Raylet) -> None:
    server = raylet.start()["parent"]
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not is_alive(server), "the server ends", TIMEOUT_S)
    said = raylet.start()
    assert is_forked(said)
    assert said["parent"] != server


def test_the_server_ends_with_its_raylet(raylet: Raylet) -> None:
    server = raylet.start()["parent"]
    assert is_alive(server)
    raylet.stop()
    wait_for(lambda: not is_alive(server), "the server ends", TIMEOUT_S)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ("sys.modules['ray'] = None", "ModuleNotFoundError"),
        ("import ray; ray.WorkerID.from_random()", "identifiers"),
        (f"import os; exec({THREAD!r}); os.register_at_fork(after_in_child=begin)", "thread"),
    ],
    ids=["an import fails", "the generator is seeded", "a thread runs"],
)
def test_where_forks_would_not_do_processes_start_by_themselves(raylet: Raylet, beside: str, reason: str) -> None:
    raylet.beside(IN_SERVER + beside)
    for _ in range(2):
        assert not is_forked(raylet.start())
    assert reason in raylet.refused.read_text()


@pytest.mark.parametrize(
    ("name", "environment", "left"),
    [
        ("train.py", {}, "1"),
        ("default_worker.py", {"TILTYARD_FORK_SERVER": "0"}, "0"),
        ("default_worker.py", {SUBREAPER: "1"}, "1"),
        ("setup_worker.py", {}, "0"),
    ],
    ids=["no worker", "turned off", "Ray kills orphans", "with a runtime_env"],
)
def test_others_start_by_themselves_and_start_no_server(
    raylet: Raylet, name: str, environment: dict[str, str], left: str
) -> None:
    said = raylet.start(name=name, **environment)
    assert not is_forked(said)
    assert said["server"] == left
    assert not list(raylet.root.glob("raylet.fork*"))


def test_another_sitecustomize_is_run(raylet: Raylet) -> None:
    raylet.beside("import os; os.environ['RAY_JOB_ID'] = 'elsewhere'")
    assert raylet.start(name="train.py")["job"] == "elsewhere"
