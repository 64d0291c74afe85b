import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from deployments.api import create_api
from deployments.feedback import Noted, Truth
from deployments.preprocessor import Preprocessor
from deployments.router import Router
from deployments.scores import Prediction
from deployments.settings import GatewaySettings
from models.errors import Conflict, DeployFailed
from models.policy import RoutingPolicy
from models.store import Store
from tests.http.answers import assert_error
from tests.http.conftest import LocalModelServers, LocalReferee

ROWS = {"instances": [[1.0, 2.0, 3.0]]}
KEY = "open sesame"
EACH_ONCE = {"counted": 1, "corrected": 1, "duplicate": 1, "pending": 1}


def reported(router: Router, referee: LocalReferee) -> None:
    """What `Reporting` does every half second."""
    report = router.report()
    assert report is not None
    router.obey(referee.referee.report(report).shares)


def ask(client: TestClient, png: bytes, **headers: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.post(
        "/predict", content=png, headers={"content-type": "image/png", **headers}
    ).json()
    return answer


@pytest.fixture
def png() -> bytes:
    """A light picture."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), "white").save(buffer, "PNG")
    return buffer.getvalue()


def test_a_rollout_tells_what_each_variant_did(
    client: TestClient, router: Router, referee: LocalReferee, png: bytes
) -> None:
    reported(router, referee)
    request_id = ask(client, png, **{"x-request-id": "first"})["request_id"]
    reported(router, referee)
    assert client.post("/feedback", json={"request_id": request_id, "label": "light"}).json()["counted"] == 1
    body = client.get("/models/light/rollout").json()
    champion, challenger = body["variants"]
    assert (champion["variant"], champion["share"], champion["statistics"]["answered"]) == ("champion", 1.0, 1)
    assert (champion["statistics"]["labelled"], champion["statistics"]["correct"]) == (1, 1)
    assert (challenger["version"], challenger["share"], challenger["statistics"]["requests"]) == (2, 0.0, 0)
    assert_error(client.get("/models/cats/rollout"), 404, "model_not_found")


def test_a_champion_that_nobody_challenges_is_told_alone(client: TestClient) -> None:
    body = client.get("/models/affine/rollout").json()
    assert body == {
        "model": "affine",
        "champion": 1,
        "routers": 0,
        "agreeing": 0,
        "variants": [{"version": 1, "variant": "champion", "share": 1.0}],
    }
    assert_error(client.get("/models/cats/rollout"), 404, "model_not_found")


def test_feedback_says_what_became_of_it(client: TestClient, router: Router, referee: LocalReferee, png: bytes) -> None:
    reported(router, referee)
    ask(client, png, **{"x-request-id": "a"})
    reported(router, referee)
    labels = [{"request_id": "a", "label": label} for label in ("dark", "light", "light")]
    body = {"feedback": [*labels, {"request_id": "never", "label": "light"}]}
    assert client.post("/feedback", json=body).json() == {**EACH_ONCE, "ambiguous": 0}
    assert client.post("/feedback", json={"request_id": "neither", "label": "light"}).json()["pending"] == 1
    assert_error(client.post("/feedback", json={"request_id": "a"}), 400, "invalid_json")
    assert_error(client.post("/feedback", json={"feedback": []}), 400, "invalid_json")
    assert_error(client.post("/feedback", json={"request_id": "a", "label": 7}), 400, "invalid_json")


@pytest.mark.parametrize(
    ("sticky", "sent"),
    [
        ({"by": "header", "name": "x-user"}, {"headers": {"x-user": "%s"}}),
        ({"by": "api_key"}, {"headers": {"authorization": "Bearer %s"}}),
        ({"by": "api_key"}, {"headers": {"x-api-key": "%s"}}),
        ({"by": "field", "name": "user"}, {"params": {"user": "%s"}}),
    ],
    ids=["header", "bearer", "x-api-key", "field"],
)
def test_who_sticks_keeps_the_variant(
    client: TestClient, router: Router, png: bytes, sticky: dict[str, str], sent: dict[str, dict[str, str]]
) -> None:
    patient = {"after_s": 30}  # on a busy machine, too, the champion never stands in
    entry = {"champion": 1, "challengers": {2: 0.5}, "sticky": sticky, "fallback": patient}
    router.reconfigure(RoutingPolicy.model_validate({"models": {"light": entry}}))
    router.obey({"light": {2: 0.5}})

    def versions(user: str) -> set[int]:
        options = {kind: {name: value % user for name, value in each.items()} for kind, each in sent.items()}
        headers = {"content-type": "image/png", **options.pop("headers", {})}
        answers = [client.post("/predict", content=png, headers=headers, **options) for _ in range(6)]  # type: ignore[arg-type]
        return {answer.json()["model_version"] for answer in answers}

    found = [versions(f"user-{number}") for number in range(12)]
    assert all(len(each) == 1 for each in found)
    assert set.union(*found) == {1, 2}


def test_a_label_names_a_version(client: TestClient, router: Router) -> None:
    router.reconfigure(RoutingPolicy.model_validate({"models": {"affine": {"champion": 1, "labels": {"stable": 1}}}}))
    assert client.post("/v1/models/affine/labels/stable:predict", json=ROWS).status_code == 200
    answer = client.post("/v1/models/affine/labels/canary:predict", json=ROWS)
    assert_error(answer, 404, "version_not_found")
    assert "no label 'canary'; there are: stable" in answer.json()["error"]["message"]


def operations(model_servers: LocalModelServers, referee: LocalReferee, key: str | None, **more: Any) -> TestClient:
    hashed = hashlib.sha256(key.encode()).hexdigest() if key else None
    settings = GatewaySettings(operator_key_sha256=hashed, **more)
    router = Router(settings, Preprocessor(model_servers, 1), model_servers)
    router.reconfigure(RoutingPolicy.model_validate({"models": {"light": {"champion": 1, "challengers": {2: 0.0}}}}))
    return TestClient(create_api(router, referee), raise_server_exceptions=False)


def test_operations_need_the_operators_key(model_servers: LocalModelServers, referee: LocalReferee) -> None:
    off = operations(model_servers, referee, None)
    assert_error(off.post("/operations/light/promote", json={"version": 2}), 401, "unauthorized")
    on = operations(model_servers, referee, KEY)
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
        answer = on.post("/operations/light/promote", json={"version": 2}, headers=headers)
        assert_error(answer, 401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("light/destroy", {}, 404, "not_found"),
        ("cats/promote", {"version": 1}, 404, "model_not_found"),
        ("light/promote", {}, 400, "invalid_json"),
        ("light/promote", {"version": 0}, 400, "invalid_json"),
        ("light/promote", {"version": 1, "force": True}, 400, "invalid_json"),
        ("light/weights", {"weights": {"2": 1.5}}, 400, "invalid_json"),
        ("light/weights", {"weights": {}}, 400, "invalid_json"),
        ("light/challenge", {"version": 2, "weight": "--help"}, 400, "invalid_json"),
    ],
)
def test_operations_that_make_no_sense_run_nothing(
    model_servers: LocalModelServers, referee: LocalReferee, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    client = operations(model_servers, referee, KEY)
    answer = client.post(f"/operations/{path}", json=body, headers={"authorization": f"Bearer {KEY}"})
    assert_error(answer, status, code)


@pytest.mark.parametrize(
    ("failure", "code"),
    [(None, None), (DeployFailed("it did not start"), "deploy_failed"), (OSError("no such program"), "internal_error")],
    ids=["done", "refused", "broken"],
)
def test_an_operation_that_outlasts_the_request_goes_on_and_is_asked_for(
    model_servers: LocalModelServers,
    referee: LocalReferee,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | None,
    code: str | None,
) -> None:
    async def slowly(arguments: Sequence[str]) -> dict[str, Any]:
        await asyncio.sleep(0.3)
        if failure is not None:
            raise failure
        return {"ran": arguments[0]}

    monkeypatch.setattr("deployments.api.commands.run_command", slowly)
    headers = {"authorization": f"Bearer {KEY}"}
    with operations(model_servers, referee, KEY, request_timeout_s=0.05, store=str(tmp_path)) as client:
        begun = client.post("/operations/light/promote", json={"version": 2}, headers=headers)
        assert begun.status_code == 202
        assert begun.json() == {**begun.json(), "command": "promote light", "state": "running"}
        assert_error(client.get(begun.headers["location"]), 401, "unauthorized")
        deadline = time.monotonic() + 10
        while (became := client.get(begun.headers["location"], headers=headers).json())["state"] == "running":
            assert time.monotonic() < deadline
        if code is not None:
            assert (became["state"], became["error"]["code"]) == ("failed", code)
            assert "no such program" not in became["error"]["message"]
        else:
            assert (became["state"], became["answer"]) == ("done", {"ran": "promote"})
        for unknown in ("0" * 20, "..history"):
            assert_error(client.get(f"/operations/{unknown}", headers=headers), 404, "not_found")


def test_an_operation_that_is_quick_is_answered_at_once(
    model_servers: LocalModelServers, referee: LocalReferee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(arguments: Sequence[str]) -> dict[str, Any]:
        raise Conflict("it is the champion already")

    monkeypatch.setattr("deployments.api.commands.run_command", refuse)
    client = operations(model_servers, referee, KEY, store=str(tmp_path))
    answer = client.post("/operations/light/promote", json={"version": 1}, headers={"authorization": f"Bearer {KEY}"})
    assert_error(answer, 409, "conflict")


def test_a_rollback_needs_no_body(
    model_servers: LocalModelServers, referee: LocalReferee, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(arguments: Sequence[str]) -> dict[str, Any]:
        return {"ran": list(arguments[:2])}

    monkeypatch.setattr("deployments.api.commands.run_command", tell)
    client = operations(model_servers, referee, KEY, store=str(tmp_path))
    headers = {"authorization": f"Bearer {KEY}"}
    assert client.post("/operations/light/rollback", headers=headers).json() == {"ran": ["rollback", "light"]}
    assert_error(client.post("/operations/light/promote", headers=headers), 400, "invalid_json", "version")


def test_feedback_names_the_model_where_ids_are_not_enough(client: TestClient, referee: LocalReferee) -> None:
    for model in ("light", "affine"):
        referee.referee._feedback.remember([Prediction(model, 1, "same", "light")])
    truth = {"request_id": "same", "label": "light"}
    assert client.post("/feedback", json=truth).json()["ambiguous"] == 1
    assert client.post("/feedback", json={**truth, "model": "light"}).json()["counted"] == 1


def test_a_referee_that_is_away_is_not_waited_for(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(LocalReferee):
        async def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
            await asyncio.sleep(60)
            raise AssertionError

    monkeypatch.setattr("deployments.api.rollouts.TIMEOUT_S", 0.05)
    client = TestClient(create_api(router, Away(Store("unused"))), raise_server_exceptions=False)
    answer = client.post("/feedback", json={"request_id": "a", "label": "light"})
    assert_error(answer, 503, "referee_unavailable")
    assert answer.headers["retry-after"] == "2"
