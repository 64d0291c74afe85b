"""How answers are written: JSON with the phases of the request beside it, and the one shape of every error."""

from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from deployments.answer import Timing


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str
    message: str


class Failure(BaseModel):
    """The shape of every error."""

    error: ErrorBody
    request_id: str


# With "default", FastAPI does not promise a 422 of its own shape: what it finds wrong is answered 400 in ours.
FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure} for status in (400, 404, 413, 415, 500, 503, 504, "default")
}


def json_response(content: Any, timing: Timing | None = None) -> Response:
    """Encode, with the phases of the request in Server-Timing."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY, default=_listed)
    return Response(body, headers=_server_timing(timing), media_type="application/json")


def _server_timing(timing: Timing | None) -> dict[str, str]:
    if timing is None:
        return {}
    phases = (
        ("preprocess", timing.preprocess_ms),
        ("queue", timing.queue_ms),
        ("compute", timing.compute_ms),
    )
    return {"server-timing": ", ".join(f"{name};dur={milliseconds:.3f}" for name, milliseconds in phases)}


def _listed(value: Any) -> Any:
    """Arrays that orjson does not write itself: text, float16, and those that are not contiguous."""
    return value.tolist()
