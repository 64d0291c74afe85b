"""Assertions on whole answers."""

from typing import Any

import httpx2 as httpx


def assert_error(response: httpx.Response, status: int, code: str, message: str = "") -> None:
    """One shape for every error; the message holds no path and no traceback."""
    body: dict[str, Any] = response.json()
    assert response.status_code == status, body
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code
    assert message in body["error"]["message"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert "/tmp" not in response.text
