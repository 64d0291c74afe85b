"""The shipped configuration on real Ray."""

import base64
import concurrent.futures
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import digits
from jobs.serve_config import ServeConfig
from loadtests.traffic import seconds_until_answered, traffic
from models.errors import TiltyardError
from models.traffic_tables import TrafficTables
from tests.cluster.conftest import ROOT, Running
from tests.processes import parent
from tests.tiny import gradient, image_bytes, png_of_size


@pytest.fixture(scope="module")
def held_out() -> digits.Split:
    return digits.load().held_out


def test_every_version_reads_digits(running: Running, held_out: digits.Split) -> None:
    for version, least in ((1, 0.93), (2, 0.985)):
        right = 0
        for start in range(0, 64, 16):
            files = held_out.files[start : start + 16]
            images = ",".join(f'"{base64.b64encode(file).decode()}"' for file in files)
            status, answer = running.post(
                f"/models/digits/predict?version={version}", f'{{"images": [{images}]}}'.encode(), "application/json"
            )
            assert status == 200
            expected = held_out.classes[start : start + 16]
            right += sum(p["predicted_class"] == str(c) for p, c in zip(answer["predictions"], expected, strict=True))
        assert right / 64 >= least - 0.03


def test_the_champion_answers(running: Running, held_out: digits.Split) -> None:
    for _ in range(20):
        status, answer = running.post("/predict", held_out.files[0])
        assert status == 200
        assert (answer["model_version"], answer["variant"]) == (1, "champion")


def test_a_request_id_comes_back_once(running: Running) -> None:
    request = urllib.request.Request(f"{running.address}/health/live", headers={"x-request-id": "mine"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.headers.get_all("x-request-id") == ["mine"]


def test_what_is_asked_comes_into_the_table_of_the_traffic_log(running: Running, held_out: digits.Split) -> None:
    asked = {running.post("/predict", file)[1]["request_id"] for file in held_out.files[:20]}
    tables = TrafficTables(str(running.config.parent / "traffic"))
    deadline = time.monotonic() + 60
    rows: list[dict[str, Any]] = []
    while len(rows) < len(asked) and time.monotonic() < deadline:
        time.sleep(1)
        table = tables.predictions("digits").read(["request_id", "label", "image_width", "version", "status"])
        rows = [row for row in table.to_pylist() if row["request_id"] in asked]
    assert len(rows) == 20
    assert {(row["version"], row["status"], row["image_width"]) for row in rows} == {(1, "ok", 64.0)}


def test_tensors_are_answered_like_images(running: Running, held_out: digits.Split) -> None:
    _, image = running.post("/predict", held_out.files[0])
    body = f'{{"instances": {held_out.pixels[:1].tolist()}}}'.encode()
    status, rows = running.post("/v1/models/digits:predict", body, "application/json")
    assert status == 200
    np.testing.assert_allclose(rows["predictions"][0], list(image["all_probabilities"].values()), atol=1e-6)


def test_a_version_loads_the_runtime_of_its_artifact_and_no_other(running: Running) -> None:
    for version in (1, 2):
        manifest = running.store.manifest("digits", version)
        assert manifest is not None
        runtime = "openvino" if manifest.chosen.startswith("openvino") else "onnxruntime"
        for pid in running.replicas(f"digits-v{version}", "ModelServer").values():
            maps = Path(f"/proc/{pid}/maps").read_text()
            assert {name for name in ("onnxruntime", "openvino", "tensorflow") if f"site-packages/{name}/" in maps} == {
                runtime
            }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks for Ray")
def test_replicas_are_forked_also_by_a_server_that_replaces_one_that_was_killed(running: Running) -> None:
    before = {parent(pid) for pid in running.replicas("gateway", "Router").values()}
    assert before == {parent(pid) for pid in running.replicas("digits-v1", "ModelServer").values()}
    (server,) = before
    assert b"deployments.fork_server" in Path(f"/proc/{server}/cmdline").read_bytes()
    (killed,) = running.replicas("digits-v1", "ModelServer").values()
    os.kill(server, signal.SIGKILL)
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (pids := set(running.replicas("digits-v1", "ModelServer").values()) - {killed}):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (replaced,) = map(parent, pids)
    assert replaced != server
    assert b"deployments.fork_server" in Path(f"/proc/{replaced}/cmdline").read_bytes()
    seconds_until_answered(f"{running.address}/models/digits/predict?version=1", image_bytes(gradient(), "PNG"))


def mixed_requests(held_out: digits.Split) -> list[tuple[bytes, str, str, int, str]]:
    """Good and bad requests: body, media type, path, and the status and class or error code that is right."""
    pairs = zip(held_out.files, held_out.classes, strict=True)
    good = [(file, "image/png", "/predict?version=2", 200, str(digit)) for file, digit in pairs]
    bad = [
        (b"", "image/png", "/predict", 400, "empty_body"),
        (b"text", "text/plain", "/predict", 415, "unsupported_media_type"),
        (image_bytes(gradient(64, 64), "JPEG")[:400], "image/jpeg", "/predict", 400, "invalid_image"),
        (png_of_size(30_000, 30_000), "image/png", "/predict", 413, "image_too_large"),
        (bytes(17 * 1024 * 1024), "image/png", "/predict", 413, "payload_too_large"),
        (b"<html></html>", "image/jpeg", "/predict", 400, "invalid_image"),
        (image_bytes(gradient(), "GIF"), "image/webp", "/predict", 415, "unsupported_media_type"),
        (b'{"instances": [NaN]}', "application/json", "/v1/models/digits:predict", 400, "invalid_json"),
        (b'{"instances": [[1], [2, 3]]}', "application/json", "/v1/models/digits:predict", 400, "invalid_tensor"),
        (b'{"instances": [[1, 2]]}', "application/json", "/v1/models/digits:predict", 400, "invalid_tensor"),
        (held_out.files[0], "image/png", "/models/cats/predict", 404, "model_not_found"),
        (held_out.files[0], "image/png", "/predict?version=9", 404, "version_not_found"),
    ]
    requests = good[:140] + bad * 5
    random.Random(0).shuffle(requests)
    return requests


def test_good_and_bad_requests_at_once(running: Running, held_out: digits.Split) -> None:
    """200 of them at concurrency 16: every good one answered right, every bad one refused right, none lost."""
    requests = mixed_requests(held_out)
    assert len(requests) == 200

    def ask(request: tuple[bytes, str, str, int, str]) -> tuple[int, str]:
        status, answer = running.post(request[2], request[0], request[1])
        return status, answer["predicted_class"] if status == 200 else answer["error"]["code"]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, requests))
    wrong = [(r[2:], a) for r, a in zip(requests, answers, strict=True) if r[3:] != a]
    misread = [pair for pair in wrong if pair[1][0] == pair[0][1] == 200]
    assert wrong == misread, "nothing is lost, refused wrongly or answered wrongly"
    assert len(misread) <= 2, "the network itself reads at least 98.5 % of the digits right"


def test_batching_changes_without_a_restart(running: Running, held_out: digits.Split) -> None:
    before = running.replicas("digits-v1", "ModelServer")
    config = ServeConfig.read(running.config)
    changed = config.copy()
    entry = next(app for app in changed.data["applications"] if app["name"] == "digits-v1")
    entry["deployments"][0]["user_config"].update(max_batch_size=4, batch_timeout_micros=300_000, num_batch_threads=2)
    running.service.apply(changed.plain())
    try:
        deadline = time.monotonic() + 30
        waited_ms = 0.0
        while waited_ms < 250 and time.monotonic() < deadline:
            started = time.monotonic()
            assert running.post("/predict", held_out.files[0])[0] == 200
            waited_ms = (time.monotonic() - started) * 1000
        assert waited_ms >= 250, "a single request waits for a batch that does not fill"
        assert running.replicas("digits-v1", "ModelServer") == before
    finally:
        running.service.apply(config.plain())
        running.service.wait_until_running("digits-v1", 30, lambda _: None)


@pytest.mark.parametrize(
    ("application", "deployment"), [("digits-v1", "ModelServer"), ("gateway", "Preprocessor")], ids=["model", "pre"]
)
def test_a_replica_that_is_killed_is_replaced(
    running: Running, held_out: digits.Split, application: str, deployment: str
) -> None:
    with traffic(f"{running.address}/predict", held_out.files[0]) as result:
        time.sleep(1)
        killed = running.replicas(application, deployment)
        os.kill(next(iter(killed.values())), signal.SIGKILL)
        died = time.monotonic()
        time.sleep(0.5)
        recovered = seconds_until_answered(f"{running.address}/predict", held_out.files[0])
        time.sleep(1)
    assert result.statuses[-1] == 200
    assert recovered < 30
    assert max(result.seconds) < 15, "no request hangs"
    assert set(result.statuses) <= {200, 503, 504}
    assert time.monotonic() - died < 60
    assert running.replicas(application, deployment).keys().isdisjoint({next(iter(killed))})


def test_what_the_readme_says(running: Running) -> None:
    """The curl of the README, on this service's port, gives the answer that the README shows."""
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"```console\n\$ (curl .*?)\n(\{.*?)\n```", readme, re.DOTALL)
    assert shown
    command, expected = shown.group(1).replace("http://127.0.0.1:8000", running.address), shown.group(2)
    done = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r'"predicted_class": ?"(\d)"', expected) == re.findall(r'"predicted_class": ?"(\d)"', done.stdout)
    assert re.findall(r'"(\w+)":', expected) == re.findall(r'"(\w+)":', done.stdout)


def test_refusals_of_ray_are_errors_too(running: Running) -> None:
    config: dict[str, Any] = ServeConfig.read(running.config).plain()
    config["applications"].append(config["applications"][0])
    with pytest.raises(TiltyardError, match="multiple configs|duplicate"):
        running.service.apply(config)
