"""The one place that knows DeploymentHandles: calls between deployments, their retries and their errors."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from deployments.answer import Answer, Outcome
from models.errors import ModelUnavailable, Overloaded, TiltyardError
from models.manifest import Manifest
from models.policy import application_name
from models.preprocessing import Preprocessing
from models.signature import Tensors

logger = logging.getLogger("ray.serve")

# Inference changes nothing, so a request whose replica died in mid-flight may run again on another one. Twice,
# not for ever: it may be the request that kills them.
ATTEMPTS = 3
_REPLICA_DIED = (RayActorError, ActorUnavailableError, grpc.RpcError)


class ModelServerHandles:
    """The live versions, each an application of its own."""

    def __init__(self) -> None:
        self._handles: dict[str, DeploymentHandle] = {}

    async def predict(self, model: str, version: int, inputs: Tensors) -> Answer:
        """Run rows through a version. Raises a TiltyardError."""
        handle = await self._handle(model, version)
        answer: Answer = await call(lambda: handle.predict.remote(inputs))
        return answer

    async def describe(self, model: str, version: int) -> Manifest:
        """Ask a replica what it runs. Raises a TiltyardError; waits while there is no replica."""
        handle = await self._handle(model, version)
        manifest: Manifest = await call(handle.describe.remote)
        return manifest

    async def _handle(self, model: str, version: int) -> DeploymentHandle:
        name = application_name(model, version)
        if name not in self._handles:
            try:
                self._handles[name] = await asyncio.to_thread(serve.get_deployment_handle, "ModelServer", name)
            except RayServeException:
                raise ModelUnavailable(f"{model} version {version} is not running") from None
        return self._handles[name]


class PreprocessorHandle:
    """The Preprocessor of this application."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def describe(self) -> str:
        """Ask a Preprocessor whether it is there. Raises a TiltyardError; waits while there is none."""
        name: str = await call(self._handle.describe.remote)
        return name

    async def predict(
        self, images: Sequence[bytes], preprocessing: Preprocessing, input_name: str, model: str, version: int
    ) -> list[Outcome]:
        """Decode and infer; outcomes in order. Raises a TiltyardError."""
        outcomes: list[Outcome] = await call(
            lambda: self._handle.predict.remote(images, preprocessing, input_name, model, version)
        )
        return outcomes


async def call(send: Callable[[], DeploymentResponse]) -> Any:
    """Send, await, and send again if the replica died. What it raised comes out as a TiltyardError."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _await(send())
        except _REPLICA_DIED as error:
            logger.warning(
                "a replica died with a request (attempt %d of %d): %s", attempt, ATTEMPTS, type(error).__name__
            )
            await asyncio.sleep(0.05 * attempt)
        except BackPressureError:
            raise Overloaded("too many requests are waiting for the model") from None
        except DeploymentUnavailableError:
            raise ModelUnavailable("the model has no replica that can answer") from None
        except RayTaskError as error:
            raise _cause(error) from None
    raise ModelUnavailable("every replica that took the request died")


async def _await(response: DeploymentResponse) -> Any:
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _cause(error: RayTaskError) -> TiltyardError:
    cause = getattr(error, "cause", error)
    if isinstance(cause, TiltyardError):
        return cause
    logger.error("a deployment raised %s", type(cause).__name__, exc_info=error)
    return TiltyardError("the service failed to answer; the request id finds the reason in its log")
