"""Predictions, called without FastAPI, which describes them in /docs.

Its dependencies and exit stacks took a quarter of a Router's CPU for a small model (py-spy, 32 clients).
"""

from collections.abc import Iterable

from fastapi.routing import APIRouter
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


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
