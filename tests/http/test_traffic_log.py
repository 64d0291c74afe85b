"""What the service remembers of requests that came over HTTP, read back from the spool."""

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from deployments.api import create_api
from deployments.preprocessor import Preprocessor
from deployments.router import Router
from deployments.settings import GatewaySettings, TrafficLogSettings
from deployments.traffic_log import TrafficLog
from models.features import ImageFeatures, image_features, sample
from models.policy import RoutingPolicy
from models.preprocessing import Preprocessing, picture
from models.traffic_ledger import Account
from models.traffic_spool import LEDGER, Stream
from models.traffic_spooled import Spool
from tests.http.conftest import CAPACITY, POLICY, LocalModelServers, LocalReferee
from tests.tiny import gradient, image_bytes

PICTURE = image_bytes(gradient(300, 200), "JPEG")
RAW = {"content-type": "image/jpeg"}


class Service:
    """A client of a service that keeps a log, and what that holds."""

    def __init__(self, router: Router, log: TrafficLog, client: TestClient) -> None:
        self.router = router
        self.log = log
        self.client = client

    def rows(self, stream: str = "predictions/light") -> list[dict[str, Any]]:
        """All of them; the log is closed for that."""
        self.log.close()
        paths = sorted(self.log.settings.spool_path.glob(f"*/{stream}/*.parquet"))
        if not paths:
            return []
        table = pa.concat_tables([pq.read_table(path) for path in paths], promote_options="default")
        rows: list[dict[str, Any]] = table.sort_by("sequence").to_pylist()
        return rows


@pytest.fixture
def service(
    model_servers: LocalModelServers, settings: GatewaySettings, referee: LocalReferee, tmp_path: Path
) -> Iterator[Service]:
    log = TrafficLog(TrafficLogSettings(root=str(tmp_path / "traffic"), flush_period_s=0.05))
    log.start()
    router = Router(settings, Preprocessor(model_servers, 2), model_servers, log)
    router.reconfigure(POLICY)
    with TestClient(create_api(router, referee), raise_server_exceptions=False) as client:
        yield Service(router, log, client)
    log.close()
    for ledger in tmp_path.rglob(LEDGER):
        ledger.resolve().unlink(missing_ok=True)


def features(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[f"image_{name}"] for name in ImageFeatures._fields}


@pytest.mark.parametrize("decodes", [False, True], ids=["actor", "inline"])
def test_an_image_is_remembered_by_its_features_before_it_is_resized(
    service: Service, model_servers: LocalModelServers, decodes: bool
) -> None:
    model_servers.capacity = replace(CAPACITY, decodes=decodes)
    headers = {**RAW, "x-request-id": "mine", "authorization": "Bearer secret"}
    answered = service.client.post("/predict", content=PICTURE, headers=headers).json()
    [row] = service.rows()
    assert (row["request_id"], row["model"], row["version"], row["variant"]) == ("mine", "light", 1, "champion")
    assert (row["status"], row["label"]) == ("ok", answered["predicted_class"])
    assert row["confidence"] == pytest.approx(answered["confidence"])
    assert row["compute_ms"] > 0
    assert row["total_ms"] >= row["compute_ms"]
    assert row["key_id"] == service.log.key_id("Bearer secret")
    expected = image_features(sample(picture(PICTURE, Preprocessing(height=8, width=16))))
    assert (expected.width, expected.height, expected.bytes) == (300, 200, len(PICTURE))
    assert features(row) == pytest.approx(expected._asdict())


def test_every_image_of_a_request_is_remembered_in_its_place_the_bad_ones_too(service: Service) -> None:
    good = base64.b64encode(PICTURE).decode()
    broken = base64.b64encode(PICTURE[:200]).decode()
    response = service.client.post("/predict", json={"images": [good, "no base64", broken, good]})
    assert response.status_code == 200
    rows = {row["item"]: row for row in service.rows()}
    assert [rows[item]["status"] for item in range(4)] == ["ok", "invalid_image", "invalid_image", "ok"]
    assert [rows[item]["image_width"] for item in range(4)] == [300, None, None, 300]
    assert len({row["request_id"] for row in rows.values()}) == 1


def test_an_image_that_cannot_be_decoded_is_remembered(service: Service) -> None:
    assert service.client.post("/predict", content=b"no image", headers=RAW).status_code == 400
    [row] = service.rows()
    assert (row["status"], row["image_width"], row["image_format"], row["label"]) == (
        "invalid_image", None, None, None,
    )  # fmt: skip


def test_rows_of_tensors_are_remembered_by_column(service: Service) -> None:
    response = service.client.post("/v1/models/affine:predict", json={"instances": [[1, 2, 3], [4, 5, 6]]})
    assert response.status_code == 200
    rows = service.rows("predictions/affine")
    assert [(row["item"], row["input_x_0"], row["input_x_2"]) for row in rows] == [(0, 1, 3), (1, 4, 6)]
    assert {row["label"] for row in rows} == {None}


def test_a_model_that_fails_is_remembered_with_what_it_was_asked(service: Service) -> None:
    response = service.client.post("/v1/models/lookup:predict", json={"instances": [9]})
    assert response.status_code == 500
    [row] = service.rows("predictions/lookup")
    assert (row["status"], row["input_index"], row["label"]) == ("model_failed", 9, None)


def test_feedback_is_remembered(service: Service) -> None:
    service.client.post("/feedback", json={"request_id": "mine", "label": "dark", "model": "light"})
    [row] = service.rows("feedback")
    assert (row["request_id"], row["label"], row["source"], row["model"]) == ("mine", "dark", "http", "light")


def test_a_shadow_is_remembered_beside_the_champion(service: Service) -> None:
    policy = RoutingPolicy.model_validate(
        {"default_model": "light", "models": {"light": {"champion": 1, "shadows": {2: 1.0}}}}
    )
    service.router.reconfigure(policy)
    service.router.obey({"light": {2: 1.0}})
    assert service.client.post("/predict", content=PICTURE, headers=RAW).status_code == 200
    deadline = time.monotonic() + 20
    while service.log._offered < 2 and time.monotonic() < deadline:
        service.client.portal.call(asyncio.sleep, 0.02)  # type: ignore[union-attr]
    champion, shadow = sorted(service.rows(), key=lambda row: str(row["variant"]))
    assert (champion["variant"], champion["compared_with"]) == ("champion", None)
    assert (shadow["variant"], shadow["version"], shadow["status"]) == ("shadow", 2, "ok")
    assert (shadow["compared_with"], shadow["agrees"], shadow["max_difference"]) == (1, True, 0)
    assert features(shadow) == features(champion)
    assert shadow["request_id"] == champion["request_id"]


def test_a_challenger_is_remembered_with_the_champions_agreement(service: Service) -> None:
    policy = RoutingPolicy.model_validate(
        {
            "default_model": "light",
            "models": {"light": {"champion": 1, "challengers": {2: 1.0}, "guard": {"compare": 1.0}}},
        }
    )
    service.router.reconfigure(policy)
    service.router.obey({"light": {2: 1.0}})
    assert service.client.post("/predict", content=PICTURE, headers=RAW).json()["model_version"] == 2
    service.client.portal.call(asyncio.sleep, 0.2)  # type: ignore[union-attr]
    [row] = service.rows()
    assert (row["variant"], row["version"], row["compared_with"], row["agrees"]) == ("challenger", 2, 1, True)


def test_where_a_challenger_fails_both_it_and_the_champion_are_remembered(
    service: Service, model_servers: LocalModelServers
) -> None:
    policy = RoutingPolicy.model_validate(
        {"default_model": "light", "models": {"light": {"champion": 1, "challengers": {2: 1.0}}}}
    )
    service.router.reconfigure(policy)
    service.router.obey({"light": {2: 1.0}})
    assert service.client.post("/predict", content=PICTURE, headers=RAW).json()["model_version"] == 2
    model_servers.versions = {key: each for key, each in model_servers.versions.items() if key != ("light", 2)}
    assert service.client.post("/predict", content=PICTURE, headers=RAW).json()["model_version"] == 1
    told = sorted((row["variant"], row["status"]) for row in service.rows())
    assert told == [("challenger", "model_unavailable"), ("challenger", "ok"), ("champion", "ok")]


def test_what_is_stored_is_what_was_asked(service: Service) -> None:
    for number in range(30):
        assert service.client.post("/predict", content=PICTURE, headers=RAW).status_code == 200, number
    assert len(service.rows()) == 30
    accounts = Spool(service.log.settings.spool_path).accounts()
    assert accounts[Stream("predictions", "light")] == Account(accepted=30, spooled=30)


def test_a_log_that_is_broken_fails_no_answer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the log is broken")

    monkeypatch.setattr("deployments.traffic_log.record", broken)
    assert service.client.post("/predict", content=PICTURE, headers=RAW).status_code == 200
    monkeypatch.setattr("deployments.image_features.sample", broken)
    monkeypatch.setattr("deployments.image_features.image_features", broken)
    assert service.client.post("/predict", content=PICTURE, headers=RAW).status_code == 200
    assert len(service.rows()) == 0
    accounts = Spool(service.log.settings.spool_path).accounts()
    assert accounts == {Stream("predictions", "light"): Account(accepted=2, lost={"not_taken": 2})}
