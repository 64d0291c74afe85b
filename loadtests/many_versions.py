"""Does a request cost more where many versions are published, and several of them live? `make many-versions`.

The service of one digits version, against the same one with 64 published and eight of them live, in turns: how fast a
closed loop is answered, and how much CPU a request takes in the processes that answer it. Seven more replicas also take
something of the machine while nobody asks them; the throughput has that in it, the CPU of a request has not.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import digits
from loadtests.closed_loop import closed_loop
from loadtests.live_champion import CHAMPION, MODEL, serve_config, served, store_of_champion, write_config
from loadtests.peers.peer import Request
from loadtests.server_process import stat_fields
from loadtests.spoiled_models import is_as_good, publish_spoilt
from models.policy import application_name
from models.store import Store

WARM_UP_S = 3.0
REQUEST = Request("/predict", {"Content-Type": "image/png"}, digits.load().held_out.files[0])
SHARE_OF_CPU = 0.1
"""What a version asks of Ray, so that eight and a gateway find room on two cores."""

ANSWERING = ("gateway:Router", "gateway:Preprocessor", f"{application_name(MODEL, CHAMPION)}:ModelServer")
"""Processes that have a part in the champion's answer, as Ray names them."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured of one service with one number of clients."""

    rps: float
    p50_ms: float
    cpu_ms: float
    errors: int


def fill(store: Store, published: int) -> None:
    """Publish the champion again and again."""
    origin = store.manifest(MODEL, CHAMPION)
    assert origin is not None
    for _ in range(published - 1):
        publish_spoilt(store, origin, is_as_good)


def configuration(store: Store, port: int, live: int) -> dict[str, Any]:
    """The champion, and as many challengers as make `live` versions, that are asked by their number only."""
    others = [version for version in store.versions(MODEL) if version != CHAMPION][: live - 1]
    config = serve_config(store.root, port, {"challengers": dict.fromkeys(others, 0.0)}, 1, {})
    first = config["applications"][1]
    first["deployments"][0]["ray_actor_options"] = {"num_cpus": SHARE_OF_CPU}
    for version in others:
        named = {"name": application_name(MODEL, version), "args": {**first["args"], "version": version}}
        config["applications"].append({**first, **named})
    return config


def measure(published: int, live: int, port: int, seconds: float, clients: tuple[int, ...]) -> Mapping[int, Cost]:
    """Serve and measure; costs by number of clients."""
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as directory:
        store, path = store_of_champion(Path(directory)), Path(directory) / "serve_config.yaml"
        fill(store, published)
        write_config(path, configuration(store, port, live))
        body = Path(directory) / "body"
        body.write_bytes(REQUEST.body)
        with served(path) as serving:
            closed_loop(serving.address, REQUEST, body, max(clients), WARM_UP_S)
            return {count: _cost(serving.address, body, count, seconds) for count in clients}


def _cost(address: str, body: Path, clients: int, seconds: float) -> Cost:
    before = _cpu_s()
    closed = closed_loop(address, REQUEST, body, clients, seconds)
    spent_s = _cpu_s() - before
    return Cost(closed.per_second, closed.p50_ms, 1000 * spent_s / closed.requests, closed.errors)


def _cpu_s() -> float:
    """CPU time of the processes that answer."""
    ticks = 0
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (directory / "cmdline").read_text().rstrip("\0 ").endswith(ANSWERING):
                ticks += sum(map(int, stat_fields(int(directory.name))[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description="Does a request cost more where many versions are published?")
    parser.add_argument("--published", type=int, default=64)
    parser.add_argument("--live", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    clients = (1, 32)
    kinds = {"one": (1, 1), "many": (options.published, options.live)}
    found: dict[str, list[Mapping[int, Cost]]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        for kind, (published, live) in kinds.items():
            costs = measure(published, live, options.port, options.seconds, clients)
            found[kind].append(costs)
            for count, cost in costs.items():
                print(f"round {number + 1}: {published} published, {live} live, {count} clients: {cost}", flush=True)
    print("\n| clients | published | live | requests/s | p50 ms | CPU ms a request | of one version's | errors |")
    print("|---|---|---|---|---|---|---|---|")
    for count in clients:
        ratio = statistics.median(
            many[count].cpu_ms / one[count].cpu_ms for one, many in zip(*found.values(), strict=True)
        )
        for kind, (published, live) in kinds.items():
            costs_of = [costs[count] for costs in found[kind]]
            rps, p50, cpu = (
                statistics.median(getattr(cost, name) for cost in costs_of) for name in ("rps", "p50_ms", "cpu_ms")
            )
            share = f"{ratio:.2f}" if kind == "many" else "1"
            errors = sum(cost.errors for cost in costs_of)
            print(f"| {count} | {published} | {live} | {rps:.0f} | {p50:.1f} | {cpu:.2f} | {share} | {errors} |")


if __name__ == "__main__":
    main()
