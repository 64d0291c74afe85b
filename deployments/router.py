"""The routing logic: admit a request, choose the variant, ask it, in time. Knows nothing of HTTP and of Ray."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from deployments import preprocessor
from deployments.answer import Answer, Outcome
from deployments.settings import GatewaySettings
from models.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    PayloadTooLarge,
    TiltyardError,
    VersionNotFound,
)
from models.json_tensors import read_instances
from models.manifest import Manifest
from models.policy import ModelPolicy, RoutingPolicy
from models.preprocessing import Preprocessing

logger = logging.getLogger("ray.serve")

PROBE_TIMEOUT_S = 2.0
"""How long a version may take to say that it is there."""

FRESH_S = 2.0
"""Whoever answered anything so recently is ready; it is not asked again."""

_PREPROCESSOR = "preprocessor"


class ModelServers(preprocessor.ModelServers, Protocol):
    """The live versions."""

    async def describe(self, model: str, version: int) -> Manifest:
        """What a version is. Raises a TiltyardError."""


class Preprocessors(Protocol):
    """Whatever turns images into tensors and has a version answer them."""

    async def describe(self) -> str:
        """Say that it is there. Raises a TiltyardError."""

    async def predict(
        self, images: Sequence[bytes], preprocessing: Preprocessing, input_name: str, model: str, version: int
    ) -> list[Outcome]:
        """Outcomes in the order of the images. Raises a TiltyardError."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A version in the part it plays."""

    model: str
    version: int
    name: str

    @property
    def key(self) -> tuple[str, int]:
        """What it is, whatever part it plays."""
        return self.model, self.version


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a version can answer, what share of the traffic is its own, and what it is (None if not known yet)."""

    variant: Variant
    share: float
    ready: bool
    manifest: Manifest | None


class Router:
    """Chooses who answers, and knows who can."""

    def __init__(self, settings: GatewaySettings, preprocessors: Preprocessors, model_servers: ModelServers) -> None:
        self.settings = settings
        self._preprocessors = preprocessors
        self._model_servers = model_servers
        self._policy = RoutingPolicy()
        self._manifests: dict[tuple[str, int], Manifest] = {}
        self._answered_at: dict[object, float] = {}
        self.requests = 0

    def reconfigure(self, policy: RoutingPolicy) -> None:
        """Obey a new policy from the next request on."""
        self._policy = policy
        live = {(model, version) for model, entry in policy.models.items() for version in entry.versions}
        self._manifests = {key: manifest for key, manifest in self._manifests.items() if key in live}
        self._answered_at = {who: at for who, at in self._answered_at.items() if who in live or who == _PREPROCESSOR}

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Hold a place in the queue and a deadline. Raises Overloaded or DeadlineExceeded."""
        if self.requests >= self.settings.max_concurrent_requests:
            raise Overloaded(f"{self.requests} requests are being answered already; try again shortly")
        self.requests += 1
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                yield
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self.settings.request_timeout_s:g} s") from None
        finally:
            self.requests -= 1

    def choose(self, model: str | None = None, version: int | None = None) -> Variant:
        """Pick the variant that answers: the version asked for, or by share. Raises ModelNotFound, VersionNotFound."""
        name, policy = self._find(model)
        if version is not None:
            if version not in policy.versions:
                live = ", ".join(map(str, sorted(policy.versions)))
                raise VersionNotFound(f"model {name!r} has no live version {version}; there are: {live}")
            return Variant(name, version, policy.variant(version))
        chosen = _draw(policy, random.random())
        return Variant(name, chosen, policy.variant(chosen))

    async def predict_images(self, variant: Variant, images: Sequence[bytes]) -> tuple[Manifest, list[Outcome]]:
        """Ask a variant about images. Raises a TiltyardError where none of them can be answered."""
        manifest = await self._manifest(variant)
        if manifest.preprocessing is None:
            raise InvalidRequest(
                f"model {variant.model!r} takes tensors, not images; send them to /v1/models/{variant.model}:predict"
            )
        outcomes = await self._preprocessors.predict(
            images, manifest.preprocessing, manifest.signature.inputs[0].name, variant.model, variant.version
        )
        if any(isinstance(outcome, Answer) for outcome in outcomes):
            self._note_answer(variant.key, _PREPROCESSOR)
        return manifest, outcomes

    async def predict_instances(self, variant: Variant, instances: Any) -> tuple[Manifest, Answer]:
        """Ask a variant about JSON instances in TensorFlow Serving's row format. Raises a TiltyardError."""
        manifest = await self._manifest(variant)
        limit = self.settings.max_instances_per_request
        if isinstance(instances, list) and len(instances) > limit:
            raise PayloadTooLarge(f"{len(instances)} instances; at most {limit} are taken at once")
        inputs = read_instances(manifest.signature, instances)
        answer = await self._model_servers.predict(variant.model, variant.version, inputs)
        self._note_answer(variant.key)
        return manifest, answer

    async def status(self, model: str | None = None) -> list[Status]:
        """State of every live version, of one model or of all. Raises ModelNotFound."""
        names = [self._find(model)[0]] if model is not None else list(self._policy.models)
        entries = [(name, self._policy.models[name]) for name in names]
        return await asyncio.gather(
            *(self._status(name, policy, version) for name, policy in entries for version in policy.versions)
        )

    def _find(self, model: str | None) -> tuple[str, ModelPolicy]:
        name = model if model is not None else self._policy.default
        if name is None or name not in self._policy.models:
            live = ", ".join(sorted(self._policy.models)) or "none yet"
            raise ModelNotFound(f"no model {name!r}; there are: {live}" if name else "no model is served yet")
        return name, self._policy.models[name]

    async def _manifest(self, variant: Variant) -> Manifest:
        """What the variant is, asked once: versions do not change."""
        if variant.key not in self._manifests:
            self._manifests[variant.key] = await self._model_servers.describe(*variant.key)
        return self._manifests[variant.key]

    async def _status(self, model: str, policy: ModelPolicy, version: int) -> Status:
        variant = Variant(model, version, policy.variant(version))
        ready = await self._is_ready(variant)
        return Status(variant, policy.share(version), ready, self._manifests.get(variant.key))

    async def _is_ready(self, variant: Variant) -> bool:
        """Whether the version answers, and for images the Preprocessor before it too."""

        async def describe_version() -> None:
            self._manifests[variant.key] = await self._model_servers.describe(*variant.key)

        if not await self._answers(variant.key, describe_version):
            return False
        manifest = self._manifests.get(variant.key)
        if manifest is None or manifest.preprocessing is None:
            return True
        return await self._answers(_PREPROCESSOR, self._preprocessors.describe)

    async def _answers(self, who: object, ask: Callable[[], Awaitable[object]]) -> bool:
        """Whether somebody answered a moment ago, or does so now."""
        if time.monotonic() - self._answered_at.get(who, float("-inf")) < FRESH_S:
            return True
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await ask()
        except (TimeoutError, ModelUnavailable, Overloaded):
            return False
        except TiltyardError as error:
            logger.warning("%s does not say that it is there: %s", who, error)
            return False
        self._note_answer(who)
        return True

    def _note_answer(self, *who: object) -> None:
        for each in who:
            self._answered_at[each] = time.monotonic()


def _draw(policy: ModelPolicy, point: float) -> int:
    """The version whose share of [0, 1) holds `point`; the champion has what the challengers leave."""
    for version, share in policy.challengers.items():
        if point < share:
            return version
        point -= share
    return policy.champion
