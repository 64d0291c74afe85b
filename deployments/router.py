"""The routing logic: admit a request, choose the variant, ask it, in time. Knows nothing of HTTP and of Ray."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from deployments.fleet import Fleet
from deployments.lane import Lane, ModelServers, Preprocessors
from deployments.messages import Answer, Outcome
from deployments.settings import GatewaySettings
from models.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    TiltyardError,
    VersionNotFound,
)
from models.manifest import Manifest
from models.policy import ModelPolicy, RoutingPolicy
from models.signature import Tensors

logger = logging.getLogger("ray.serve")

PROBE_TIMEOUT_S = 2.0
"""How long a version may take to say that it is there."""

FRESH_S = 2.0
"""Whoever answered anything so recently is ready; it is not asked again."""

_PREPROCESSOR = "preprocessor"


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
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._max_requests_per_version = settings.max_concurrent_requests
        self._preprocessor_fleet = Fleet()
        self._answered_at: dict[object, float] = {}
        self.requests = 0

    def reconfigure(self, policy: RoutingPolicy) -> None:
        """Obey a new policy from the next request on."""
        self._policy = policy
        live = {(model, version) for model, entry in policy.models.items() for version in entry.versions}
        self._lanes = {key: lane for key, lane in self._lanes.items() if key in live}
        places = self.settings.max_concurrent_requests
        self._max_requests_per_version = (places + 1) // 2 if len(live) > 1 else places
        self._answered_at = {who: at for who, at in self._answered_at.items() if who in live or who == _PREPROCESSOR}

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[float]:
        """Hold a place, and give the deadline as time.monotonic(). Raises Overloaded or DeadlineExceeded."""
        if self.requests >= self.settings.max_concurrent_requests:
            raise Overloaded(f"{self.requests} requests are being answered already; try again shortly")
        self.requests += 1
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                yield time.monotonic() + self.settings.request_timeout_s
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

    @contextmanager
    def place(self, variant: Variant) -> Iterator[None]:
        """Hold one of the version's places. Raises Overloaded: while several are live, none takes more than half."""
        lane = self._lane(variant.key)
        if lane.requests >= self._max_requests_per_version:
            raise Overloaded(f"{lane.requests} requests wait for this version already; try again shortly")
        lane.requests += 1
        try:
            yield
        finally:
            lane.requests -= 1

    async def manifest(self, variant: Variant) -> Manifest:
        """What a variant is. Raises a TiltyardError."""
        return await self._lane(variant.key).manifest()

    async def predict_images(self, variant: Variant, images: Sequence[bytes], deadline: float) -> list[Outcome]:
        """Ask a variant about images. Raises a TiltyardError where none of them can be answered."""
        if not images:
            return []
        lane = self._lane(variant.key)
        if (await lane.manifest()).preprocessing is None:
            raise InvalidRequest(
                f"model {variant.model!r} takes tensors, not images; send them to /v1/models/{variant.model}:predict"
            )
        outcomes = await lane.predict_images(images, deadline)
        if any(isinstance(outcome, Answer) for outcome in outcomes):
            self._note_answer(variant.key, *([] if lane.decodes else [_PREPROCESSOR]))
        return outcomes

    async def predict(self, variant: Variant, inputs: Tensors, deadline: float) -> Answer:
        """Ask a variant about rows [rows, ...]. Raises a TiltyardError."""
        answer = await self._lane(variant.key).predict(inputs, deadline)
        self._note_answer(variant.key)
        return answer

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

    def _lane(self, key: tuple[str, int]) -> Lane:
        if key not in self._lanes:
            self._lanes[key] = Lane(
                *key,
                self._model_servers,
                self._preprocessors,
                self._preprocessor_fleet,
                self.settings.max_image_pixels,
            )
        return self._lanes[key]

    async def _status(self, model: str, policy: ModelPolicy, version: int) -> Status:
        variant = Variant(model, version, policy.variant(version))
        ready = await self._is_ready(variant)
        description = self._lane(variant.key).description
        return Status(variant, policy.share(version), ready, description.manifest if description else None)

    async def _is_ready(self, variant: Variant) -> bool:
        """Whether the version answers, and for images the Preprocessor before it too."""
        lane = self._lane(variant.key)
        if not await self._answers(variant.key, lane.describe):
            return False
        description = lane.description
        if description is None or lane.decodes or description.manifest.preprocessing is None:
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
