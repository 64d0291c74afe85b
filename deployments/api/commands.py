"""Operations over HTTP: the commands of `tiltyard`, for whoever has the operator's key."""

import asyncio
import hashlib
import hmac
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from deployments.api.body import parse_optional_json, read_body, validated
from deployments.api.responses import FAILURES, json_response
from deployments.command import run_command
from deployments.operation_log import OperationLog
from deployments.router import Router
from models.errors import NotFound, Unauthorized
from models.policy import Share, VersionNumber
from models.store import Store, resolve_root

routes = APIRouter(tags=["operations"], prefix="/operations")

PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class Command(BaseModel):
    """What every command takes; `because` goes into the history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: bool = False
    because: str = Field("", max_length=500, pattern=PRINTABLE)

    def arguments(self) -> list[str]:
        """As they are typed after the model's name."""
        return []

    def options(self) -> list[str]:
        """What every command takes, as it is typed."""
        because = [f"--because={self.because}"] if self.because else []
        return [*because, *(["--dry-run"] if self.dry_run else [])]


class Challenge(Command):
    """`tiltyard challenge`."""

    version: VersionNumber
    weight: Share | None = None
    shadow: bool = False
    sample: Share | None = None

    def arguments(self) -> list[str]:
        """As they are typed after the model's name."""
        given = {"--weight": self.weight, "--sample": self.sample}
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        return [str(self.version), *options, *(["--shadow"] if self.shadow else [])]


class OneVersion(Command):
    """`tiltyard promote` and `retire`."""

    version: VersionNumber

    def arguments(self) -> list[str]:
        """As they are typed after the model's name."""
        return [str(self.version)]


class Weights(Command):
    """`tiltyard weights`."""

    weights: Annotated[dict[VersionNumber, Share], Field(min_length=1)]

    def arguments(self) -> list[str]:
        """As they are typed after the model's name."""
        return [f"{version}={share}" for version, share in self.weights.items()]


class Operation(BaseModel):
    """What became of an operation: `answer` is there when it is `done`, `error` when it has `failed`."""

    operation: str
    command: str
    state: Literal["running", "done", "failed"]
    answer: dict[str, Any] | None = None
    error: dict[str, str] | None = None


COMMANDS: dict[str, type[Command]] = {
    "challenge": Challenge,
    "promote": OneVersion,
    "retire": OneVersion,
    "rollback": Command,
    "weights": Weights,
}


@routes.post(
    "/{name}/{command}",
    summary="Challenge, promote, rollback, retire, or set weights",
    responses={200: {}, 202: {"model": Operation}, **FAILURES},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [each.model_json_schema() for each in set(COMMANDS.values())]},
                    "example": {"version": 2, "weight": 0.1, "dry_run": True},
                }
            },
        }
    },
)
async def operate(request: Request, name: str, command: str) -> Response:
    """Run a command as `tiltyard` does and tell the state before and after. Needs `authorization: Bearer KEY`.

    One that outlasts the deadline of a request is answered 202 and goes on; its `location` says what became of it.
    """
    router: Router = request.app.state.router
    operator = authorized(request, router.settings.operator_key_sha256)
    if command not in COMMANDS:
        raise NotFound(f"no command {command!r}; there are: {', '.join(COMMANDS)}")
    router.sticky(name)  # raises ModelNotFound, and keeps anything else from being taken for an option
    asked = validated(COMMANDS[command], await read_body(request, parse_optional_json))
    where = [f"--file={resolve_root(router.settings.serve_config)}", f"--address={router.settings.dashboard}"]
    given = [command, name, *asked.arguments(), *asked.options(), *where, "--json", f"--by={operator}"]
    log = OperationLog(Store(router.settings.store))
    operation = log.begin(f"{command} {name}")
    running = asyncio.ensure_future(log.followed(operation, run_command(given)))
    running.add_done_callback(_noted)
    done, _ = await asyncio.wait([running], timeout=router.settings.request_timeout_s)
    if done:
        return json_response(running.result())
    response = json_response(log.read(operation))
    response.status_code = 202
    response.headers["location"] = f"/operations/{operation}"
    return response


def _noted(running: asyncio.Future[dict[str, Any]]) -> None:
    """Nobody may wait any more for what it raised: that is in the log."""
    if not running.cancelled():
        running.exception()


@routes.get("/{operation}", summary="What became of an operation?", responses={200: {"model": Operation}, **FAILURES})
async def became(request: Request, operation: str) -> Response:
    """Tell whether an operation runs, is done, or failed, and what it answered. Needs `authorization: Bearer KEY`."""
    router: Router = request.app.state.router
    authorized(request, router.settings.operator_key_sha256)
    return json_response(OperationLog(Store(router.settings.store)).read(operation))


def authorized(request: Request, key_sha256: str | None) -> str:
    """Name of the operator, from the start of the key's hash. Raises Unauthorized."""
    if key_sha256 is None:
        raise Unauthorized("operations over HTTP are off; operator_key_sha256 in the gateway's args turns them on")
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    found = hashlib.sha256(key.strip().encode()).hexdigest()
    if scheme.lower() != "bearer" or not hmac.compare_digest(found, key_sha256):
        raise Unauthorized("expected the operator's key: authorization: Bearer KEY")
    return f"operator-{found[:8]}"
