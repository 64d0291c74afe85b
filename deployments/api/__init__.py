"""The HTTP surface: wire formats, one file each, around a Router."""

import logging
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api import commands, images, operations, rollouts, tensorflow_serving
from deployments.api.body import BodyLimit
from deployments.api.direct import Direct
from deployments.api.request_id import RequestId, request_id
from deployments.errors import error_response
from deployments.referee import RefereeHandle
from deployments.router import Router
from models.errors import UNEXPECTED, InvalidRequest, NotFound, TiltyardError

logger = logging.getLogger("ray.serve")

DESCRIPTION = """Predictions from the models that are live. Every error has one shape,
`{"error": {"code": ..., "message": ...}, "request_id": ...}`, and every answer carries `x-request-id`."""


def create_api(router: Router, referee: RefereeHandle, echo_request_id: bool = True) -> FastAPI:
    """Build the ASGI application of a router and a referee. /docs carries its own assets, so it works offline."""
    api: FastAPI = FastAPIOffline(title="Tiltyard", description=DESCRIPTION, version=version("tiltyard"))
    api.state.router = router
    api.state.referee = referee
    api.include_router(images.routes)
    api.include_router(tensorflow_serving.routes)
    api.include_router(operations.routes)
    api.include_router(rollouts.routes)
    api.include_router(commands.routes)
    api.add_middleware(Direct, routers=(images.routes, tensorflow_serving.routes))
    api.add_middleware(BodyLimit, max_body_bytes=router.settings.max_body_bytes)
    api.add_middleware(Errors)
    api.add_middleware(RequestId, echo=echo_request_id)
    api.add_exception_handler(HTTPException, _http_exception)
    api.add_exception_handler(RequestValidationError, _validation_error)
    return api


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(f"no route {request.url.path!r}; /docs lists them"), request_id(request.scope))
    response = error_response(InvalidRequest(str(error.detail)), request_id(request.scope))
    response.status_code = error.status_code
    response.headers.update(error.headers or {})
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return error_response(InvalidRequest(f"{field}: {first['msg']}"), request_id(request.scope))


class Errors:
    """ASGI middleware that answers our own errors, and those nobody expected: logged with traceback, told without."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; an error before the answer has begun becomes a 500."""
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except ClientDisconnect:  # nobody is there to be told
            return
        except TiltyardError as error:
            if has_begun:
                raise
            await error_response(error, request_id(scope))(scope, receive, send)
        except Exception:
            if has_begun:
                raise
            name = request_id(scope)
            logger.exception("request %s failed", name)
            await error_response(TiltyardError(UNEXPECTED), name)(scope, receive, send)
