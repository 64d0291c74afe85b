"""How an error becomes an answer: one JSON shape for all, with the status its class carries."""

from typing import Any

import orjson
from starlette.responses import Response

from models.errors import TiltyardError


def error_body(error: TiltyardError) -> dict[str, Any]:
    """`{"code": ..., "message": ...}`."""
    return {"code": error.code, "message": error.message}


def error_response(error: TiltyardError, request_id: str | None) -> Response:
    """`{"error": {...}, "request_id": ...}`; Retry-After where trying again makes sense."""
    retry_after_s = getattr(error, "retry_after_s", None)
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    content = orjson.dumps({"error": error_body(error), "request_id": request_id})
    return Response(content, error.status, headers, "application/json")
