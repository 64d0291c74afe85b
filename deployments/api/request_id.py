"""x-request-id: the client's, or a new one; in every answer."""

import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"


class RequestId:
    """ASGI middleware that names each request.

    `echo` is off behind Ray Serve, whose own middleware names the request before and echoes the name after.
    """

    def __init__(self, app: ASGIApp, echo: bool) -> None:
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a request id in its state and in its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = Headers(scope=scope).get(HEADER) or str(uuid.uuid4())
        scope.setdefault("state", {})["request_id"] = name

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = name
            await send(message)

        await self._app(scope, receive, send_named if self._echo else send)


def request_id(scope: dict[str, Any] | Scope) -> str:
    """The id of the request."""
    return str(scope.get("state", {}).get("request_id", ""))
