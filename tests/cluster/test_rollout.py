"""A bad challenger on live traffic: nobody notices but the referee."""

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from jobs import digits
from jobs.serve_config import ServeConfig
from jobs.service import configurations_of, get_json
from loadtests.spoiled_models import is_as_good, marked, publish_spoilt, says_nan
from loadtests.traffic import traffic
from tests.cluster.conftest import OPERATOR_KEY, Running
from tests.processes import wait_for
from tests.tiny import affine, floats, put

PERIOD_S = 0.3
"""How often the service is asked."""


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A digit that wakes a spoilt model up."""
    return marked(digits.load().held_out.files[0])


def rollout(running: Running) -> dict[int, dict[str, Any]]:
    """What the referee says, by version; nothing while it is away."""
    status, body = get_json(f"{running.address}/models/digits/rollout")
    return {each["version"]: each for each in body["variants"]} if status == 200 else {}


@pytest.mark.timeout(300)
def test_a_bad_challenger_is_stopped_and_no_client_notices(running: Running, picture: bytes) -> None:
    origin = running.store.manifest("digits", 2)
    assert origin is not None
    version = publish_spoilt(running.store, origin, says_nan)
    try:
        with traffic(f"{running.address}/predict", picture, clients=2) as result:
            done = running.tiltyard("challenge", "digits", str(version), "--weight", "0.5")
            assert done.returncode == 0, done.stderr
            wait_for(lambda: rollout(running).get(version, {}).get("stopped_because"), timeout_s=60, period_s=PERIOD_S)
            before = len(result.statuses)
            referee = running.replicas("gateway", "Referee")
            os.kill(next(iter(referee.values())), signal.SIGKILL)
            wait_for(
                lambda: running.replicas("gateway", "Referee").keys() - referee.keys(), timeout_s=60, period_s=PERIOD_S
            )
            wait_for(lambda: rollout(running).get(version, {}).get("stopped_because"), timeout_s=60, period_s=PERIOD_S)
            assert len(result.statuses) > before
        assert set(result.statuses) == {200}
        assert rollout(running)[version]["share"] == 0
        told = json.loads(running.tiltyard("history", "digits", "--json").stdout)["events"]
        stop = next(event for event in told if (event["version"], event["action"]) == (version, "rollback"))
        assert stop["by"] == "referee"
        assert stop["evidence"]["checks"]
    finally:
        assert running.tiltyard("retire", "digits", str(version)).returncode == 0


DRY_RUNS = (
    ("challenge digits 2 --weight 0.5", "+                2: 0.5"),
    ("weights digits 2=0.25", "+                2: 0.25"),
    ("promote digits 2", "+              champion: 2"),
    ("retire digits 2", "Unloaded: version 2."),
    ("deploy another", "Loaded: version 1."),
)


def state(running: Running) -> tuple[bytes, dict[str, Any], dict[str, int]]:
    """The file, what was applied, and the Routers."""
    live = configurations_of(running.service.details()["applications"])
    return running.config.read_bytes(), live, running.replicas("gateway", "Router")


@pytest.mark.timeout(300)
def test_a_dry_run_changes_neither_the_file_nor_what_runs(running: Running, tmp_path: Path) -> None:
    put(running.store, "another", affine(tmp_path / "affine.onnx"), {"x": floats([[1, 2, 3]])})
    before = state(running)
    for command, shown in DRY_RUNS:
        done = running.tiltyard(*command.split(), "--dry-run")
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout
        if "Loaded: version" in shown:
            assert "Memory: about" in done.stdout
    assert state(running) == before


@pytest.mark.timeout(300)
def test_an_edit_by_hand_is_checked_and_applied_and_what_is_no_policy_takes_no_router_down(
    running: Running, picture: bytes
) -> None:
    def edited(compare: float) -> ServeConfig:
        guard = {"compare": compare}
        return ServeConfig.read(running.config).edited(lambda made: made.entry("digits").update(guard=guard))

    before, routers = running.config.read_text(), running.replicas("gateway", "Router")
    good, bad = edited(0.5), edited(2.0)
    running.config.write_text(bad.text)
    assert "guard.compare: Input should be less than or equal to 1" in running.tiltyard("apply").stderr
    running.service.apply(bad.plain())
    wait_for(lambda: "guard.compare" in get_json(f"{running.address}/health")[1].get("refused", ""), timeout_s=30)
    assert running.post("/predict", picture)[0] == 200

    running.config.write_text(good.text)
    assert "told" not in running.tiltyard("apply", "--dry-run").stderr
    done = running.tiltyard("apply")
    assert (done.returncode, "compare: 0.5" in done.stdout) == (0, True), done.stderr
    assert get_json(f"{running.address}/health")[1]["status"] == "ok"

    running.config.write_text(before)
    refused = running.tiltyard("weights", "digits", "2=0.1")
    assert "the Routers were told something else of model 'digits' than the file says" in refused.stderr
    assert running.tiltyard("apply").returncode == 0
    assert running.replicas("gateway", "Router") == routers

    other = ServeConfig.read(running.config).edited(
        lambda made: made.data["applications"][0]["args"].update(max_images_per_request=32)
    )
    running.config.write_text(other.text)
    done = running.tiltyard("apply")
    assert (done.returncode, "Restarted: gateway." in done.stdout) == (0, True), done.stderr
    assert not running.replicas("gateway", "Router").keys() & routers.keys()
    assert running.post("/predict", picture)[0] == 200


def asked(running: Running, path: str, body: dict[str, Any] | None = None) -> tuple[str | None, dict[str, Any]]:
    """Where to ask again, of an operation that goes on, and the answer."""
    headers = {"authorization": f"Bearer {OPERATOR_KEY}", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(running.address + path, data, headers), timeout=60) as response:
        return response.headers.get("location"), json.load(response)


def operate(running: Running, command: str, **body: Any) -> dict[str, Any]:
    """Have a command carried out, however long it takes."""
    location, answer = asked(running, f"/operations/digits/{command}", body)
    if location is None:
        return answer
    wait_for(lambda: asked(running, str(location))[1]["state"] != "running", timeout_s=120, period_s=PERIOD_S)
    became = asked(running, location)[1]
    assert became["state"] == "done", became
    answered: dict[str, Any] = became["answer"]
    return answered


@pytest.mark.timeout(300)
def test_operators_work_over_http_too(running: Running) -> None:
    if not running.dashboard.endswith(":8265"):
        pytest.fail("another Ray runs on this machine and has the dashboard's usual port; stop it first")
    origin = running.store.manifest("digits", 2)
    assert origin is not None
    version = publish_spoilt(running.store, origin, is_as_good)
    written = running.config.read_text()
    assert f"{version}: 0.5" in operate(running, "challenge", version=version, weight=0.5, dry_run=True)["diff"]
    assert running.config.read_text() == written
    assert operate(running, "challenge", version=version, shadow=True, sample=1.0)["applied"]
    assert rollout(running)[version]["variant"] == "shadow"
    assert operate(running, "retire", version=version)["applied"]
    assert version not in {each["version"] for each in get_json(f"{running.address}/models/digits")[1]["versions"]}
