"""The one place that knows DeploymentHandles: calls between deployments, their retries and their errors."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
import ray
from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from deployments.background import start
from deployments.bypass import Bypass, is_wanted
from deployments.channel import Gone
from deployments.feedback import Noted, Truth
from deployments.messages import TOO_LARGE, Description, ImageRequest, Reply, Requests, Target, TensorRequest
from deployments.referee import Directive
from deployments.scores import RouterReport
from models.errors import UNEXPECTED, ModelUnavailable, Overloaded, PayloadTooLarge, ReplicaDied, TiltyardError
from models.policy import application_name

logger = logging.getLogger("ray.serve")

Response: TypeAlias = DeploymentResponse | DeploymentResponseGenerator | Awaitable[Any]
"""What a call gives at once: its answer to come, or a stream with that as its only item."""

# Inference changes nothing, so a request whose replica died in mid-flight may run again on another one. Twice,
# not for ever: it may be the request that kills them.
ATTEMPTS = 3


LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""Ray Serve's gRPC: nobody listens there any more, or the server stopped before it began."""


class ModelServerHandles:
    """The live versions, each an application of its own."""

    def __init__(self) -> None:
        self._predictors: dict[str, Predictor] = {}

    async def describe(self, model: str, version: int) -> Description:
        """Ask a replica what it runs. Raises a TiltyardError; waits while there is no replica."""
        description: Description = await (await self._predictor(model, version)).describe()
        return description

    async def meet(self, model: str, version: int) -> None:
        """Find the way to a version before a request is on it. Raises a TiltyardError."""
        await (await self._predictor(model, version)).meet()

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        """Have a version answer. Raises a TiltyardError."""
        return await (await self._predictor(model, version)).predict(requests)

    async def _predictor(self, model: str, version: int) -> "Predictor":
        name = application_name(model, version)
        if name not in self._predictors:
            try:
                handle = await asyncio.to_thread(serve.get_deployment_handle, "ModelServer", name)
            except (RayServeException, RayActorError):
                raise ModelUnavailable(f"{model} version {version} is not running") from None
            if name not in self._predictors:  # somebody else asked meanwhile
                self._predictors[name] = Predictor(handle)
        return self._predictors[name]


class PreprocessorHandle:
    """The Preprocessor of this application."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = plain(handle)
        self._predictor = Predictor(handle)

    async def describe(self) -> str:
        """Ask a Preprocessor whether it is there. Raises a TiltyardError; waits while there is none."""
        name: str = await self._predictor.describe()
        return name

    async def meet(self, model: str, version: int) -> None:
        """Have a Preprocessor find the way to a version. Raises a TiltyardError."""
        await call(lambda: self._handle.meet.remote(model, version))

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        """Decode, and have a version answer. Raises a TiltyardError."""
        return await self._predictor.predict(requests, target)


class Predictor:
    """A deployment that answers requests: through its handle, or past it where it says how."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = plain(handle)
        self._streaming = streaming(self._handle)
        self._bypass = Bypass(self._introduction) if is_wanted() else None

    async def describe(self) -> Any:
        """Ask a replica what it is. Raises a TiltyardError; waits while there is none."""
        return await call(self._handle.describe.remote)

    async def meet(self) -> None:
        """Find the way to a replica, before a request is on it. Raises a TiltyardError."""
        await self.describe()
        if self._bypass is not None:
            self._bypass.prepare()

    async def predict(self, requests: Requests, *more: Any) -> Reply:
        """Have replicas answer. Raises a TiltyardError."""
        return await call_with(requests, lambda some: self._send(some, *more))

    def _send(self, *arguments: Any) -> Response:
        if self._bypass is None:
            return self._through_handle(*arguments)
        return self._bypass.call(arguments, lambda: _answer(self._through_handle(*arguments)))

    def _through_handle(self, *arguments: Any) -> DeploymentResponseGenerator:
        stream: DeploymentResponseGenerator = self._streaming.predict_as_stream.remote(*arguments)
        return stream

    def _introduction(self, busy_s: float) -> DeploymentResponseGenerator:
        node = ray.get_runtime_context().get_node_id()
        stream: DeploymentResponseGenerator = self._streaming.introduce.remote(node, busy_s)
        return stream


class RefereeOfApplication:
    """The referee of this application."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = plain(handle)

    async def report(self, report: RouterReport) -> Directive:
        """Tell it what was seen, and be told what to do. Raises a TiltyardError."""
        directive: Directive = await call(lambda: self._handle.report.remote(report))
        return directive

    async def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands. Raises a TiltyardError."""
        rollout: dict[str, Any] = await call(lambda: self._handle.rollout.remote(model))
        return rollout

    async def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
        """Tell it what the classes of requests, by id, really were. Raises a TiltyardError."""
        noted: list[Noted] = await call(lambda: self._handle.feedback.remote(truths))
        return noted


def plain(handle: DeploymentHandle) -> DeploymentHandle:
    """A handle that uses pickle: what we send needs none of cloudpickle's tricks, which take several times longer."""
    plain: DeploymentHandle = handle.options(request_serialization="pickle", response_serialization="pickle")
    return plain


def streaming(handle: DeploymentHandle) -> DeploymentHandle:
    """A handle whose calls are answered by streams.

    Ray learns how busy a replica is from the head of its answer. A stream's comes when the call is taken, a plain
    answer's with the answer itself, when it is old: of four calls, two replicas then had three and one as often as two
    each, and were idle a quarter of the time (loadtests/RESULTS.md).
    """
    streaming: DeploymentHandle = handle.options(stream=True)
    return streaming


Send: TypeAlias = Callable[[Requests], Response]


async def call_with(requests: Requests, send: Send) -> Reply:
    """Send requests together, and each alone where that killed the replica or was too large: one may be to blame."""
    started = time.monotonic()
    try:
        reply: Reply = await call(lambda: send(requests), 1 if len(requests) > 1 else ATTEMPTS)
        return reply
    except (ReplicaDied, PayloadTooLarge):
        if len(requests) == 1:
            raise
    spent_s = time.monotonic() - started
    alone = [replace(request, timeout_s=request.timeout_s - spent_s) for request in requests]
    replies = await asyncio.gather(*(_alone(send, request) for request in alone))
    known = next((reply for reply in replies if reply.model_server), replies[0])
    return replace(known, outcomes=[outcome for reply in replies for outcome in reply.outcomes])


async def _alone(send: Send, request: TensorRequest | ImageRequest) -> Reply:
    try:
        reply: Reply = await call(lambda: send([request]))
        return reply
    except TiltyardError as error:
        return Reply([error], None)


async def call(send: Callable[[], Response], attempts: int = ATTEMPTS) -> Any:
    """Send, await, and send again if the replica died. Whatever goes wrong comes out as a TiltyardError."""
    for attempt in range(1, attempts + 1):
        try:
            return await _answer(send())
        except RayTaskError as error:  # first: it is of its cause's class too, with a remote traceback as its text
            raise _translated(error) from error
        except TiltyardError:
            raise
        except Exception as error:  # Ray's errors, those of gRPC, and bugs in a deployment
            if not _is_death(error):
                raise _translated(error) from error
            name = type(error).__name__
            logger.warning("a replica died with a request (attempt %d of %d): %s", attempt, attempts, name)
        await asyncio.sleep(0.05 * attempt)
    raise ReplicaDied("every replica that took the request died")


async def _answer(response: Response) -> Any:
    try:
        if not isinstance(response, DeploymentResponseGenerator):
            return await response
        item = await anext(response)
        start(_drain(response), _DRAINING)
        return item
    except asyncio.CancelledError:
        if isinstance(response, DeploymentResponse | DeploymentResponseGenerator):
            response.cancel()
        raise


async def _drain(stream: DeploymentResponseGenerator) -> None:
    """Read a stream to its end, which tells Ray that the replica is free; nobody has to wait for that."""
    with suppress(Exception):  # the answer is here already
        async for _ in stream:
            pass


_DRAINING: set[asyncio.Task[None]] = set()


def _is_death(error: Exception) -> bool:
    if isinstance(error, grpc.RpcError):
        return error.code() in LOST
    return isinstance(error, RayActorError | ActorUnavailableError | Gone)


def _translated(error: Exception) -> TiltyardError:
    """Our own error of what Ray raised. With actor calls a deployment's error comes wrapped, over gRPC as it is."""
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else error
    match cause:
        case TiltyardError():
            return cause
        case BackPressureError():
            return Overloaded("too many requests are waiting for the model")
        case DeploymentUnavailableError():
            return ModelUnavailable("the model has no replica that can answer")
        case grpc.RpcError() if cause.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return PayloadTooLarge(TOO_LARGE)
    logger.error("a deployment raised %s", type(cause).__name__, exc_info=error)
    return TiltyardError(UNEXPECTED)
