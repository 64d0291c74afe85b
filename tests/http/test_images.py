import asyncio
import base64
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import Message

from deployments.api import create_api
from deployments.router import Router
from jobs import digits
from models.preprocessing import Preprocessing, preprocess
from tests.http.answers import assert_error
from tests.http.conftest import CAPACITY, LocalModelServers, LocalReferee
from tests.tiny import gradient, image_bytes, png_of_size

WHITE = image_bytes(Image.new("RGB", (16, 8), "white"))
BLACK = image_bytes(Image.new("RGB", (16, 8), "black"))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def send(client: TestClient, data: bytes, media_type: str = "image/png", path: str = "/predict") -> Any:
    return client.post(path, content=data, headers={"content-type": media_type})


def test_one_image_is_answered_in_full(client: TestClient) -> None:
    response = client.post("/predict", content=WHITE, headers={"content-type": "image/png", "x-request-id": "mine"})
    assert response.status_code == 200
    answer = response.json()
    assert 0 < answer.pop("inference_time_ms") < 1000
    assert answer == {
        "predicted_class": "light",
        "confidence": 1.0,
        "all_probabilities": {"dark": 0.0, "light": 1.0},
        "model": "light",
        "model_version": 1,
        "variant": "champion",
        "request_id": "mine",
    }
    assert response.headers["x-request-id"] == "mine"
    assert [phase.partition(";")[0] for phase in response.headers["server-timing"].split(", ")] == [
        "queue",
        "preprocess",
        "batch",
        "compute",
        "encode",
    ]


@pytest.mark.parametrize("path", ["/predict", "/models/light/predict"])
@pytest.mark.parametrize(
    "request_options",
    [
        pytest.param({"content": WHITE, "headers": {"content-type": "image/png"}}, id="png"),
        pytest.param({"content": WHITE, "headers": {"content-type": "application/octet-stream"}}, id="octets"),
        pytest.param({"files": {"file": ("white.png", WHITE)}}, id="multipart"),
        pytest.param({"json": {"image": encoded(WHITE)}}, id="base64"),
        pytest.param({"json": {"image": f"data:image/png;base64,{encoded(WHITE)}"}}, id="data url"),
        *(
            pytest.param(
                {"content": image_bytes(Image.new("RGB", (16, 8), "white"), name), "headers": {"content-type": kind}},
                id=name,
            )
            for name, kind in (("JPEG", "image/jpeg"), ("WEBP", "image/webp"))
        ),
    ],
)
def test_every_way_to_send_an_image(client: TestClient, path: str, request_options: dict[str, Any]) -> None:
    response = client.post(path, **request_options)
    assert response.status_code == 200
    assert response.json()["predicted_class"] == "light"


@pytest.mark.parametrize(
    "request_options",
    [
        pytest.param({"files": [("file", WHITE), ("file", b"junk"), ("file", BLACK)]}, id="multipart"),
        pytest.param({"json": {"images": [encoded(WHITE), encoded(b"junk"), encoded(BLACK)]}}, id="base64"),
        pytest.param({"json": {"images": [encoded(WHITE), "%", encoded(BLACK)]}}, id="broken base64"),
    ],
)
def test_of_several_images_a_bad_one_fails_alone(client: TestClient, request_options: dict[str, Any]) -> None:
    response = client.post("/predict", **request_options)
    assert response.status_code == 200
    first, second, third = response.json()["predictions"]
    assert (first["predicted_class"], third["predicted_class"]) == ("light", "dark")
    assert second.keys() == {"error"}
    assert second["error"]["code"] == "invalid_image"


def test_a_list_of_one_is_answered_with_a_list(client: TestClient) -> None:
    assert len(client.post("/predict", json={"images": [encoded(WHITE)]}).json()["predictions"]) == 1


def test_a_version_can_be_asked_for(client: TestClient) -> None:
    answer = send(client, WHITE, path="/models/light/predict?version=2").json()
    assert (answer["model_version"], answer["variant"]) == (2, "challenger")


@pytest.mark.parametrize("is_inline", [False, True], ids=["actor", "inline"])
def test_what_is_fed_is_what_training_would_feed(
    client: TestClient, model_servers: LocalModelServers, is_inline: bool
) -> None:
    """The identity model answers with the pixels that reached it: those of the shared function, bit for bit."""
    model_servers.capacity = replace(CAPACITY, decodes=is_inline)
    photograph = image_bytes(gradient(53, 37), "JPEG", quality=80)
    fed = np.array(send(client, photograph, "image/jpeg", "/models/pixels/predict").json()["outputs"]["pixels"])
    np.testing.assert_array_equal(fed, preprocess(photograph, Preprocessing(height=8, width=16)))


def test_what_is_fed_is_what_training_fed(client: TestClient) -> None:
    """The digits' files, sent to a model that answers with what reached it, against the array that trained one."""
    training = digits.load().training
    for file, pixels in zip(training.files[:32], training.pixels[:32], strict=True):
        fed = np.array(send(client, file, path="/models/digit_pixels/predict").json()["outputs"]["pixels"])
        np.testing.assert_array_equal(fed, pixels)


@pytest.mark.parametrize(
    ("data", "media_type", "status", "code"),
    [
        pytest.param(b"", "image/png", 400, "empty_body", id="empty body"),
        pytest.param(WHITE, "text/plain", 415, "unsupported_media_type", id="wrong content type"),
        pytest.param(WHITE, "application/x-www-form-urlencoded", 415, "unsupported_media_type", id="curl's default"),
        pytest.param(WHITE, "", 415, "unsupported_media_type", id="no content type"),
        pytest.param(
            image_bytes(gradient(64, 64), "JPEG")[:400], "image/jpeg", 400, "invalid_image", id="truncated jpeg"
        ),
        pytest.param(png_of_size(30_000, 30_000), "image/png", 413, "image_too_large", id="png bomb"),
        pytest.param(bytes(300_000), "image/png", 413, "payload_too_large", id="body over the limit"),
        pytest.param(b"<html></html>", "image/jpeg", 400, "invalid_image", id="html as jpeg"),
        pytest.param(
            image_bytes(gradient(), "GIF", save_all=True, append_images=[gradient()]),
            "image/png",
            415,
            "unsupported_media_type",
            id="animated gif",
        ),
        pytest.param(b"{", "application/json", 400, "invalid_json", id="broken json"),
        pytest.param(b"[1]", "application/json", 400, "invalid_json", id="json that is no object"),
        pytest.param(b"{}", "application/json", 400, "invalid_json", id="json without image"),
        pytest.param(b'{"image": 1}', "application/json", 400, "invalid_image", id="image that is a number"),
        pytest.param(b'{"image": "%%%"}', "application/json", 400, "invalid_image", id="broken base64"),
        pytest.param(b'{"images": []}', "application/json", 400, "invalid_json", id="no images"),
        pytest.param(b'{"images": ["","","","",""]}', "application/json", 400, "invalid_request", id="too many images"),
        pytest.param(b"--x", "multipart/form-data; boundary=x", 400, "invalid_request", id="broken multipart"),
        pytest.param(b"--x--", "multipart/form-data", 400, "invalid_request", id="multipart without boundary"),
    ],
)
def test_bad_input_is_refused(client: TestClient, data: bytes, media_type: str, status: int, code: str) -> None:
    assert_error(send(client, data, media_type), status, code)


@pytest.mark.parametrize("mode", ["CMYK", "P", "I;16", "LA"])
def test_unusual_colours_are_converted(client: TestClient, mode: str) -> None:
    white = Image.new("I;16", (16, 8), 65535) if mode == "I;16" else Image.new("RGB", (16, 8), "white").convert(mode)
    response = send(client, image_bytes(white, "JPEG" if mode == "CMYK" else "PNG"))
    assert response.json()["predicted_class"] == "light"
    assert response.json()["confidence"] > 0.99


def test_multipart_without_a_file_is_refused(client: TestClient) -> None:
    assert_error(client.post("/predict", files={"picture": WHITE}), 400, "invalid_request", "'file' is missing")


def test_too_many_files_are_refused(client: TestClient) -> None:
    assert_error(client.post("/predict", files=[("file", WHITE)] * 5), 400, "invalid_request", "Too many files")


@pytest.mark.parametrize("declared", [None, 10**9], ids=["undeclared length", "declared length"])
def test_a_large_body_is_refused_before_it_is_read(router: Router, referee: LocalReferee, declared: int | None) -> None:
    """Spoken to as a web server would, since the test client reads the whole body itself first."""
    chunk, chunks, sent = bytes(65536), 0, []

    async def receive() -> Message:
        nonlocal chunks
        chunks += 1
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send_message(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"image/png")]
    if declared:
        headers.append((b"content-length", str(declared).encode()))
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    asyncio.run(create_api(router, referee)(scope, receive, send_message))
    assert sent[0]["status"] == 413
    assert b"larger than 200000 bytes" in sent[1]["body"]
    assert chunks == (0 if declared else 200_000 // len(chunk) + 1)


def test_unknown_models_and_versions(client: TestClient) -> None:
    assert_error(send(client, WHITE, path="/models/cats/predict"), 404, "model_not_found", "no model 'cats'")
    assert_error(send(client, WHITE, path="/predict?version=9"), 404, "version_not_found", "there are: 1, 2")
    for wrong in ("one", "0", "-1", "9" * 5000, "\u0661"):
        assert_error(send(client, WHITE, path=f"/predict?version={wrong}"), 400, "invalid_request", "version: ")


def test_images_for_a_tensor_model_are_shown_the_way(client: TestClient) -> None:
    assert_error(
        send(client, WHITE, path="/models/affine/predict"), 400, "invalid_request", "/v1/models/affine:predict"
    )


def test_an_answer_that_is_no_number_is_an_error(client: TestClient) -> None:
    grey = image_bytes(Image.new("L", (1, 2), 128))
    black = image_bytes(Image.new("L", (1, 2), 0))
    assert_error(send(client, grey, path="/models/broken/predict"), 500, "model_failed", "NaN")
    files = [("file", io.BytesIO(black)), ("file", io.BytesIO(grey))]
    good, bad = client.post("/models/broken/predict", files=files).json()["predictions"]
    assert good["predicted_class"] == "a"
    assert bad["error"]["code"] == "model_failed"
