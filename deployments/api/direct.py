"""Predictions, called without FastAPI, which describes them in /docs.

FastAPI's handling of one request takes as long as several small models (loadtests/RESULTS.md).
"""

from collections.abc import Iterable

from fastapi.routing import APIRouter
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import InvalidRequest


class Direct:
    """ASGI middleware that hands a request to the handler of its route, and what no route takes to the application.

    The handlers take a Starlette request and nothing else.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._routes = [
            Route(route.path, route.endpoint, methods=list(route.methods))
            for router in routers
            for route in router.routes
            if isinstance(route, Route) and route.methods
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        for route in self._routes:
            match, child_scope = route.matches(scope)
            if match is Match.FULL:
                scope.update(child_scope)
                response = await route.endpoint(Request(scope, receive, send))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def parameter(name: str, place: str, description: str, schema: str) -> dict[str, object]:
    """One parameter as OpenAPI describes it."""
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": schema},
    }


def version_of(value: str | None) -> int | None:
    """Read a version number. Raises InvalidRequest."""
    if value is None:
        return None
    if not value.isdecimal() or int(value) < 1:
        raise InvalidRequest(f"version: expected a whole number from 1 on, got {value[:40]!r}")
    return int(value)
