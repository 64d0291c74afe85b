import asyncio
import shutil
from collections.abc import Sequence

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from deployments.api import create_api
from deployments.messages import ImageRequest, Reply, Target
from deployments.router import Router
from deployments.settings import GatewaySettings
from models.errors import ModelUnavailable
from models.store import Store
from tests.fakes import Near
from tests.http.answers import assert_error
from tests.http.conftest import POLICY, LocalModelServers, LocalReferee


class Stuck(Near):
    """A Preprocessor that never answers."""

    async def describe(self) -> str:
        return "here"

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError


class Faulty(Stuck):
    """A Preprocessor with a bug."""

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        raise ZeroDivisionError(f"in {shutil.__file__}")


def client_of(preprocessor: Stuck, model_servers: LocalModelServers, **settings: float) -> TestClient:
    router = Router(GatewaySettings.model_validate(settings), preprocessor, model_servers)
    router.reconfigure(POLICY)
    return TestClient(create_api(router, LocalReferee(Store("unused"))), raise_server_exceptions=False)


def test_health_is_well_while_every_version_answers(client: TestClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "missing": []}


def test_health_names_what_is_missing(client: TestClient, model_servers: LocalModelServers) -> None:
    del model_servers.versions["light", 2]
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {
        "status": "degraded",
        "missing": [{"model": "light", "version": 2, "variant": "challenger", "state": "unavailable"}],
    }
    assert client.get("/health/live").json() == {"status": "ok"}
    states = {v["version"]: v["state"] for v in client.get("/models/light").json()["versions"]}
    assert states == {1: "ready", 2: "unavailable"}


def test_health_tells_of_a_policy_that_was_refused(client: TestClient, router: Router) -> None:
    router.refused = "Router user_config: models.light.guard.compare: Input should be less than or equal to 1"
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "missing": [], "refused": router.refused}


class Gone(Stuck):
    """A Preprocessor without a replica."""

    async def describe(self) -> str:
        raise ModelUnavailable("no replica")


def test_health_misses_the_preprocessor_for_models_that_take_images(model_servers: LocalModelServers) -> None:
    response = client_of(Gone(), model_servers).get("/health")
    assert response.status_code == 503
    assert {missing["model"] for missing in response.json()["missing"]} == {"light", "broken", "pixels", "digit_pixels"}


def test_models_are_described(client: TestClient) -> None:
    assert [model["name"] for model in client.get("/model-info").json()["models"]] == list(POLICY.models)
    champion = client.get("/models/light").json()["versions"][0]
    assert champion["signature"]["inputs"] == [{"name": "image", "dtype": "uint8", "shape": [None, 8, 16, 3]}]
    assert champion["preprocessing"]["width"] == 16
    assert (champion["share"], champion["artifact"], champion["labels"]) == (1.0, "onnx", ["dark", "light"])
    assert champion["created"]
    assert_error(client.get("/models/cats"), 404, "model_not_found")


def test_errors_of_the_framework_have_the_same_shape(client: TestClient) -> None:
    assert_error(client.get("/nowhere"), 404, "not_found", "/nowhere")
    wrong = client.get("/predict")
    assert_error(wrong, 405, "invalid_request", "Method Not Allowed")
    assert wrong.headers["allow"] == "POST"


def test_a_request_id_is_made_where_none_came(client: TestClient) -> None:
    first, second = (client.get("/health/live").headers["x-request-id"] for _ in range(2))
    assert first != second


def test_docs_need_no_internet(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "https://" not in page.replace("https://fastapi.tiangolo.com", "")
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
    assert {
        "/predict",
        "/models/{name}/predict",
        "/v1/models/{name}:predict",
        "/health",
        "/health/live",
        "/model-info",
        "/models/{name}",
    } <= set(paths)
    assert "image/png" in paths["/predict"]["post"]["requestBody"]["content"]


def test_a_request_past_its_deadline_is_answered_504(model_servers: LocalModelServers) -> None:
    client = client_of(Stuck(), model_servers, request_timeout_s=0.05)
    response = client.post("/predict", content=b"x", headers={"content-type": "image/png"})
    assert_error(response, 504, "deadline_exceeded", "0.05 s")


def test_a_bug_is_answered_500_without_its_traceback(
    model_servers: LocalModelServers, caplog: pytest.LogCaptureFixture
) -> None:
    response = client_of(Faulty(), model_servers).post(
        "/predict", content=b"x", headers={"content-type": "image/png", "x-request-id": "find-me"}
    )
    assert_error(response, 500, "internal_error")
    assert shutil.__file__ not in response.text
    assert "find-me" in caplog.text


def test_a_full_house_is_answered_503_at_once(model_servers: LocalModelServers) -> None:
    router = Router(GatewaySettings(max_concurrent_requests=1), Stuck(), model_servers)
    router.reconfigure(POLICY)

    async def crowd() -> httpx.Response:
        transport = httpx.ASGITransport(create_api(router, LocalReferee(Store("unused"))))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            first = asyncio.create_task(client.post("/predict", content=b"x", headers={"content-type": "image/png"}))
            while not router.requests:
                await asyncio.sleep(0)
            refused = await client.post("/predict", content=b"x", headers={"content-type": "image/png"})
            first.cancel()
            return refused

    response = asyncio.run(crowd())
    assert_error(response, 503, "overloaded")
    assert response.headers["retry-after"] == "1"
