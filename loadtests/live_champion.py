"""A service of one champion, served from a store of its own, that load tests do things to while requests come."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML

from jobs import digits
from jobs.serve import Serving
from jobs.service import Service, get_json
from loadtests.digit_stream import Digit, Stream
from loadtests.operators import Operator, operating, stand_for_other_machines
from loadtests.spoiled_models import marked
from loadtests.traffic import STARTUP_TIMEOUT_S
from models.store import DEFAULT_ROOT, Store

MODEL, CHAMPION = "digits", 2
SETTLED_S = 2.0
"""After a change is true, Routers have half a second to hear of it and HAProxy a second or two; what is due before that
counts for neither side."""

CLIENTS = 8
"""How many send at once where it is asked how much is answered at most."""


@dataclass(frozen=True, slots=True)
class LiveChampion:
    """The running service, where its versions are, who changes it, and the requests that will come."""

    path: Path
    store: Store
    serving: Serving
    service: Service
    operator: Operator
    stream: Stream


def serve_config(
    store: Path, port: int, policy: Mapping[str, Any], routers: int, traffic_log: Mapping[str, Any]
) -> dict[str, Any]:
    """One champion; room for a second version on two cores."""
    traffic_log = {"root": str(store.parent / "traffic"), **traffic_log}
    policy = {"champion": CHAMPION, "fallback": {"after_s": 0.5}, "guard": {"compare": 0.5}, **policy}
    router = {"name": "Router", "num_replicas": routers, "user_config": {"models": {MODEL: policy}}}
    return {
        "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 30},
        "applications": [
            {
                "name": "gateway",
                "route_prefix": "/",
                "import_path": "deployments.app:gateway",
                "args": {"store": str(store), "traffic_log": traffic_log},
                "deployments": [router],
            },
            {
                "name": f"{MODEL}-v{CHAMPION}",
                "route_prefix": None,
                "import_path": "deployments.app:model_version",
                "args": {"model": MODEL, "version": CHAMPION, "store": str(store), "artifact": "onnx"},
                "deployments": [{"name": "ModelServer", "autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}],
            },
        ],
    }


def store_of_champion(directory: Path) -> Store:
    """A store with a copy of the champion alone."""
    store = Store(directory / "store")
    shutil.copytree(DEFAULT_ROOT / MODEL / str(CHAMPION), store.root / MODEL / str(CHAMPION))
    return store


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a serve_config.yaml."""
    with path.open("w") as file:
        YAML().dump(config, file)


@contextmanager
def served(path: Path) -> Iterator[Serving]:
    """Serve a configuration, once every version of it answers, until the block ends. Raises SystemExit."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    serving = Serving(path)
    try:
        if not serving.wait_until_healthy(print, STARTUP_TIMEOUT_S) or not _is_complete(serving.address):
            raise SystemExit("the service did not become healthy")
        yield serving
    finally:
        serving.stop()


def _is_complete(address: str) -> bool:
    """Whether all versions came to run, not the champions alone."""
    deadline = time.monotonic() + STARTUP_TIMEOUT_S
    while get_json(f"{address}/health")[1].get("status") != "ok":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def offer(made: LiveChampion, share: float, seconds: float = 8.0) -> None:
    """Have the stream send a share of what the service answers at most, which is measured in a closed loop now."""
    flood = replace(made.stream, rate=5000, clients=CLIENTS, drains=False, replies=[])
    with made.stream.paused():
        time.sleep(SETTLED_S)  # what was due is answered
        began = time.monotonic()
        with flood.flowing():
            time.sleep(seconds)
            most = sum(reply.status == 200 for reply in flood.replies) / (time.monotonic() - began)
        made.stream.rate = share * most
        time.sleep(SETTLED_S)
    print(f"{most:.0f} requests/s are answered at most, {made.stream.rate:.0f} are sent")


@contextmanager
def live_champion(
    rate: float,
    port: int,
    policy: Mapping[str, Any] = MappingProxyType({}),
    routers: int = 1,
    traffic_log: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[LiveChampion]:
    """Serve the champion, with marked digits to send."""
    data = digits.load().held_out
    stream = [Digit(marked(file), str(label)) for file, label in zip(data.files, data.classes, strict=True)]
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as directory:
        store, path = store_of_champion(Path(directory)), Path(directory) / "serve_config.yaml"
        write_config(path, serve_config(store.root, port, policy, routers, traffic_log))
        with served(path) as serving, operating(path, MODEL, serving.dashboard) as operator:
            stand_for_other_machines()
            flowing = Stream(serving.address, stream, rate, gives_feedback=True)
            yield LiveChampion(path, store, serving, Service(serving.dashboard), operator, flowing)
