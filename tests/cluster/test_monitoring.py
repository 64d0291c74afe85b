"""From live traffic to an alert: the stream shifts, one message comes; it shifts back, and one says so."""

import io
import os
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import digits
from jobs.serve_config import ServeConfig
from models.traffic_tables import TrafficTables
from tests.cluster.conftest import Running
from tests.unit.test_alerts import Receiver, receiver

__all__ = ["receiver"]

EVERY_S = 20
WINDOW = 1000
PERIODS = 12
DRIFT_PYTHON = ".venv-drift/bin/python"


@pytest.fixture(scope="module")
def good() -> list[bytes]:
    return list(digits.load().held_out.files)


@pytest.fixture
def monitored(running: Running, receiver: Receiver, good: list[bytes]) -> Iterator[Running]:
    """The service with a monitoring application that looks at the last predictions every few seconds.

    They are as the reference is, whatever was asked of the service before.
    """
    written = running.config.read_text()
    config = ServeConfig.read(running.config)
    gateway = config.data["applications"][0]["args"]
    began = datetime.now(UTC)
    send(running, good, WINDOW)
    wait_until_logged(TrafficTables(traffic_root(gateway)), began)
    rule = {"after": 1, "of": 1, "resolve_after": 1, "level": "critical", "tiers": ["drift"]}
    config.data["applications"].append(
        {
            "name": "monitoring",
            "route_prefix": None,
            "import_path": "deployments.app:monitoring",
            "args": {
                "schedules": [
                    {"model": "digits", "version": 1, "every": f"{EVERY_S}s", "window": WINDOW, "rule": rule}
                ],
                "alerts": [{"kind": "json", "url": receiver.url, "level": "critical"}],
                "traffic": str(traffic_root(gateway)),
                "store": str(running.store.root),
                "num_cpus": 0,
            },
        }
    )
    running.config.write_text(config.text)
    running.service.apply(config.plain())
    try:
        running.service.wait_until_running("monitoring", 120, print)
        yield running
    finally:
        running.config.write_text(written)
        running.service.apply(ServeConfig.read(running.config).plain())
        running.service.wait_until_gone("monitoring", 60)


def traffic_root(gateway: Any) -> str:
    """Where the gateway's traffic log is."""
    return str((gateway.get("traffic_log") or {}).get("root", "models/traffic"))


def wait_until_logged(tables: TrafficTables, since: datetime) -> None:
    deadline = time.monotonic() + 120
    while tables.predictions("digits").read(["time"], since).num_rows < WINDOW:
        assert time.monotonic() < deadline
        time.sleep(1)


def spoilt(picture: bytes) -> bytes:
    """The same digit, inverted."""
    with Image.open(io.BytesIO(picture)) as image:
        pixels = 255 - np.asarray(image.convert("L"))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def send(running: Running, pictures: list[bytes], count: int) -> None:
    for _ in range(count):
        status, _ = running.post("/predict?version=1", random.choice(pictures))
        assert status == 200


def until(receiver: Receiver, count: int, running: Running, pictures: list[bytes]) -> None:
    """Go on sending until so many messages have come."""
    deadline = time.monotonic() + PERIODS * EVERY_S
    while len(receiver.bodies) < count:
        assert time.monotonic() < deadline, [body["event"] for body in receiver.bodies]
        send(running, pictures, 50)


@pytest.mark.skipif(not os.access(DRIFT_PYTHON, os.X_OK), reason="`make drift` makes the drift job's environment")
@pytest.mark.timeout(600)
def test_one_message_when_the_stream_shifts_and_one_when_it_is_over(
    monitored: Running, receiver: Receiver, good: list[bytes]
) -> None:
    bad = [spoilt(picture) for picture in good]
    send(monitored, good, WINDOW + 200)
    time.sleep(EVERY_S)
    assert receiver.bodies == []
    send(monitored, bad, WINDOW)
    until(receiver, 1, monitored, bad)
    send(monitored, bad, WINDOW)
    assert [body["event"] for body in receiver.bodies] == ["opened"]
    send(monitored, good, WINDOW + 200)
    until(receiver, 2, monitored, good)
    assert [body["event"] for body in receiver.bodies] == ["opened", "resolved"]
    assert receiver.bodies[0]["report"]["tiers"][1]["severity"] == "critical"
