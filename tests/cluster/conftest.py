"""One real service for all cluster tests: `serve run` on a copy of serve_config.yaml, on ports of its own."""

import hashlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.serve import Serving
from jobs.serve_config import ServeConfig
from jobs.service import Service
from loadtests.traffic import STARTUP_TIMEOUT_S, post
from models.store import Store

ROOT = Path(__file__).parents[2]
MARK = "TILTYARD_TEST_RUN"
OPERATOR_KEY = "the key of the tests"


@dataclass(frozen=True)
class Running:
    """A service under test."""

    address: str
    dashboard: str
    config: Path
    store: Store
    run: str

    @property
    def service(self) -> Service:
        return Service(self.dashboard)

    def replicas(self, application: str, deployment: str) -> dict[str, int]:
        return self.service.replicas(application, deployment)

    def haproxies(self) -> set[int]:
        """HAProxy, and those that it has replaced and that end with their connections."""
        return {pid for pid, command in processes_of(self.run).items() if "/haproxy -db" in command}

    def post(self, path: str, body: bytes, media_type: str = "image/png", timeout_s: float = 60) -> tuple[int, Any]:
        return post(f"{self.address}{path}", body, media_type, timeout_s)

    def tiltyard(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person would."""
        command = [str(Path(sys.executable).with_name("tiltyard")), *arguments]
        environment = {
            **os.environ,
            "TILTYARD_STORE": str(self.store.root),
            "RAY_DASHBOARD_ADDRESS": self.dashboard,
            "COLUMNS": "200",
        }
        return subprocess.run(
            command, env=environment, cwd=self.config.parent, capture_output=True, text=True, check=False, timeout=300
        )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def processes_of(run: str) -> dict[int, str]:
    """The living processes that a run started, and their command lines."""
    alive = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={run}".encode() in (directory / "environ").read_bytes():
                alive[int(directory.name)] = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return alive


@pytest.fixture(scope="session")
def running(digits_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The service of serve_config.yaml. When it is stopped, nothing of it is left."""
    http, metrics, stats = free_ports(3)
    config = tmp_path_factory.mktemp("service") / "serve_config.yaml"
    edited = ServeConfig.read(ROOT / "serve_config.yaml")
    edited.data["http_options"]["port"] = http
    gateway = edited.data["applications"][0]["args"]
    gateway["operator_key_sha256"] = hashlib.sha256(OPERATOR_KEY.encode()).hexdigest()
    gateway["traffic_log"] = {"root": str(config.parent / "traffic"), "append_period_s": 5}
    for application in edited.data["applications"]:
        if "store" in application["args"]:
            application["args"]["store"] = str(digits_store.root)
    config.write_text(edited.text)
    run = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HAPROXY_METRICS_PORT", str(metrics))
        patch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", str(stats))
        patch.setenv(MARK, run)
        serving = Serving(config)
        patch.delenv(MARK)
        try:
            assert serving.wait_until_healthy(print, STARTUP_TIMEOUT_S)
            yield Running(serving.address, serving.dashboard, config, digits_store, run)
        finally:
            serving.stop()
    deadline = time.monotonic() + 10
    while (left := processes_of(run)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
