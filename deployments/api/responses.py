"""How answers are written: JSON with the phases of the request beside it, and the one shape of every error."""

import time
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response

from deployments.messages import Timing


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
    started = time.perf_counter()
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY, default=_listed)
    encode_ms = (time.perf_counter() - started) * 1000
    return Response(body, headers=_server_timing(timing, encode_ms), media_type="application/json")


def _server_timing(timing: Timing | None, encode_ms: float) -> dict[str, str]:
    if timing is None:
        return {}
    return {
        "server-timing": f"queue;dur={timing.queue_ms:.3f}, preprocess;dur={timing.preprocess_ms:.3f}, "
        f"batch;dur={timing.batch_ms:.3f}, compute;dur={timing.compute_ms:.3f}, encode;dur={encode_ms:.3f}"
    }


def _listed(value: Any) -> Any:
    """Arrays that orjson does not write itself: text, float16, and those that are not contiguous."""
    return value.tolist()
