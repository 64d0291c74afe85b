"""The routing logic: admit a request, choose the variant, ask it, in time. Knows nothing of HTTP and of Ray."""

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from deployments.contest import Contest, patience_s
from deployments.copy_budget import CopyLimits
from deployments.draw import draw
from deployments.fleet import Fleet
from deployments.lane import Lane, ModelServers, Preprocessors, answered
from deployments.messages import Answer
from deployments.question import Asked, Entry, Images, Key, Rows, Served, Variant, champion_of
from deployments.readiness import PREPROCESSOR, Readiness
from deployments.scores import RouterReport
from deployments.settings import GatewaySettings
from deployments.traffic_log import TrafficLog
from models.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    TiltyardError,
    VersionNotFound,
)
from models.machine import cores
from models.manifest import Manifest
from models.policy import ModelPolicy, RoutingPolicy, Sticky
from models.signature import Tensors

Shares = Mapping[str, Mapping[int, float]]
"""What challengers and shadows are allowed, by model and version."""


@dataclass(frozen=True, slots=True)
class Status:
    """Whether a version can answer, what share of the traffic is its own, and what it is (None if not known yet)."""

    variant: Variant
    share: float
    ready: bool
    manifest: Manifest | None


class Router:
    """Chooses who answers, and knows who can."""

    def __init__(
        self,
        settings: GatewaySettings,
        preprocessors: Preprocessors,
        model_servers: ModelServers,
        log: TrafficLog | None = None,
    ) -> None:
        self.settings = settings
        self.log = log
        self.name = secrets.token_hex(4)
        """Tells the referee who reports."""
        self._preprocessors = preprocessors
        self._model_servers = model_servers
        self._declared = RoutingPolicy()
        self._policy = RoutingPolicy()
        self._configured = 0.0
        self._shares: Shares = {}
        self._started = time.time()
        self._is_contested = False
        copy_limits = CopyLimits.of(settings.max_copies, settings.shadow_duty_cycle, cores())
        self.contest = Contest(self._lane, copy_limits, log)
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._max_requests_per_version = self._max_requests_per_champion = settings.max_concurrent_requests
        self._preprocessor_fleet = Fleet()
        self._readiness = Readiness(self._lane, preprocessors)
        self.requests = 0
        self.refused: str | None = None
        """Why the policy that it was told last is none; it goes by the one before."""

    def reconfigure(self, policy: RoutingPolicy) -> None:
        """Obey a new policy from the next request on; what the referee says of it follows in a moment."""
        before, self._declared = self._declared, policy
        self._configured = time.time()
        self._is_contested = self._is_contested or any(len(entry.versions) > 1 for entry in policy.models.values())
        self._shares = {name: _still_allowed(before, policy, name, shares) for name, shares in self._shares.items()}
        self._apply()
        live = self._live
        self._lanes = {key: lane for key, lane in self._lanes.items() if key in live}
        places = self.settings.max_concurrent_requests
        self._max_requests_per_version = (places + 1) // 2
        self._max_requests_per_champion = (places + 1) // 2 if len(policy.models) > 1 else places
        self._readiness.forget(live)
        self.contest.forget(live)

    def meet(self) -> None:
        """Begin to get to know the versions that are new; for so long the champion answers for challengers."""
        self._readiness.meet(sorted(self._live))

    @property
    def _live(self) -> set[Key]:
        """Whom the policy names."""
        return {(model, version) for model, entry in self._declared.models.items() for version in entry.versions}

    def obey(self, shares: Shares, configured: float = math.inf) -> None:
        """Give challengers and shadows the shares that the referee allows them, never more than is declared.

        Of whom it has said nothing yet has none: until it is heard, the champion answers. What it said of a policy that
        was `configured` before this Router's is out of date.
        """
        if configured >= self._configured:
            self._shares = shares
            self._apply()

    def _apply(self) -> None:
        models = {
            name: entry.with_shares(
                {
                    version: min(share, self._shares.get(name, {}).get(version, 0.0))
                    for version, share in {**entry.challengers, **entry.shadows}.items()
                }
            )
            for name, entry in self._declared.models.items()
        }
        self._policy = self._declared.model_copy(update={"models": models})

    def report(self) -> RouterReport | None:
        """What the referee should know; None as long as no model ever had more than one version."""
        if not self._is_contested:
            return None
        fallbacks = {name: entry.fallback for name, entry in self._declared.models.items()}
        breakers = [(key, breaker) for key, breaker in self.contest.breakers.items() if key[0] in fallbacks]
        return RouterReport(
            router=self.name,
            started=self._started,
            configured=self._configured,
            policy=self._declared,
            statistics=self.contest.scores.statistics(),
            disagreements=self.contest.scores.disagreements(),
            breakers={key: breaker.state(fallbacks[key[0]]) for key, breaker in breakers},
            trips={key: breaker.trips for key, breaker in breakers},
            predictions=self.contest.scores.take_predictions(),
        )

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

    def choose(
        self, model: str | None = None, version: int | None = None, label: str | None = None, key: str | None = None
    ) -> Variant:
        """Pick who answers: the version or label asked for, else by share; who sends the same key gets the same one.

        Raises ModelNotFound, VersionNotFound, ModelUnavailable.
        """
        name, policy = self._find(model)
        if label is not None:
            if label not in policy.labels:
                raise VersionNotFound(f"model {name!r} has no label {label!r}; there are: {_listed(policy.labels)}")
            version = policy.labels[label]
        if version is not None:
            if version not in policy.versions:
                live = _listed(sorted(policy.versions))
                raise VersionNotFound(f"model {name!r} has no live version {version}; there are: {live}")
            return Variant(name, version, policy.variant(version), by_number=True)
        drawn = Variant(name, chosen := draw(policy, key), policy.variant(chosen))
        if drawn.name == "challenger" and not self._can_take(drawn, policy):
            return champion_of(name, policy)
        return drawn

    def sticky(self, model: str | None) -> Sticky | None:
        """What the requests of a model stick by. Raises ModelNotFound, ModelUnavailable."""
        return self._find(model)[1].sticky

    def _can_take(self, challenger: Variant, policy: ModelPolicy) -> bool:
        """Whether it is no stranger, there is a place for the request, and the breaker lets it through."""
        if self._readiness.is_meeting(challenger.key):
            return False
        if self._lane(challenger.key).requests >= self._max_requests_per_version:
            champion = champion_of(challenger.model, policy)
            if self._lane(champion.key).requests < self._max_requests_per_champion:  # it can, and the challenger cannot
                self.contest.scores.note_failure(challenger.key, Overloaded())
            return False
        return self.contest.breaker(challenger.key).lets_through(policy.fallback)

    @contextmanager
    def place(self, variant: Variant) -> Iterator[None]:
        """Hold one of the version's places. Raises Overloaded.

        A version that is no champion takes no more than half of all; nor does a champion while there are several.
        """
        lane = self._lane(variant.key)
        is_champion = variant.name == "champion"
        if lane.requests >= (self._max_requests_per_champion if is_champion else self._max_requests_per_version):
            raise Overloaded(f"{lane.requests} requests wait for this version already; try again shortly")
        lane.requests += 1
        try:
            yield
        finally:
            lane.requests -= 1

    async def settle(self, variant: Variant, deadline: float) -> tuple[Variant, Manifest]:
        """Who answers, and what it is: the champion in place of a challenger that does not even say what it is.

        Raises a TiltyardError.
        """
        lane = self._lane(variant.key)
        if lane.known is not None:
            return variant, lane.known
        if variant.name != "challenger" or variant.by_number:
            return variant, await lane.manifest()
        policy = self._find(variant.model)[1]
        try:
            async with asyncio.timeout(patience_s(policy.fallback, deadline)):
                return variant, await lane.manifest()
        except (TimeoutError, TiltyardError) as error:
            failure = error if isinstance(error, TiltyardError) else DeadlineExceeded("it did not say what it is")
            self.contest.fail(variant.key, policy.fallback, failure)
        champion = champion_of(variant.model, policy)
        return champion, await self._lane(champion.key).manifest()

    async def predict_images(
        self,
        variant: Variant,
        images: Sequence[bytes | TiltyardError],
        deadline: float,
        request_id: str = "",
        api_key: str | None = None,
    ) -> list[Served]:
        """Ask a variant about images, some of which could not even be read; what came of each.

        Raises a TiltyardError where none of them can be answered.
        """
        entry = self._entry(deadline, api_key)
        served = {
            place: Served(variant, image) for place, image in enumerate(images) if isinstance(image, TiltyardError)
        }
        if served and self.log is not None:
            unread = Images([b""] * len(served), places=list(served))
            policy = self._find(variant.model)[1]
            self.log.note(Asked(policy, variant, unread, deadline, request_id, entry), list(served.values()))
        readable = {place: image for place, image in enumerate(images) if isinstance(image, bytes)}
        if readable:
            question = Images(list(readable.values()), entry is not None, list(readable))
            answers = await self._answer_images(variant, question, deadline, request_id, entry)
            served |= dict(zip(readable, answers, strict=True))
        return [served[place] for place in range(len(images))]

    async def _answer_images(
        self, variant: Variant, question: Images, deadline: float, request_id: str, entry: Entry | None
    ) -> list[Served]:
        if (await self._lane(variant.key).manifest()).preprocessing is None:
            raise InvalidRequest(
                f"model {variant.model!r} takes tensors, not images; send them to /v1/models/{variant.model}:predict"
            )
        served = await self._answer(variant, question, deadline, request_id, entry)
        if any(isinstance(each.outcome, Answer) and not self._lane(each.variant.key).decodes for each in served):
            self._readiness.note(PREPROCESSOR)
        return served

    async def predict(
        self, variant: Variant, inputs: Tensors, deadline: float, request_id: str = "", api_key: str | None = None
    ) -> Answer:
        """Ask a variant about rows [rows, ...]. Raises a TiltyardError."""
        entry = self._entry(deadline, api_key)
        served = await self._answer(variant, Rows(inputs), deadline, request_id, entry)
        return answered(served[0].outcome)

    def _entry(self, deadline: float, api_key: str | None) -> Entry | None:
        """The request's entry in the traffic log, if it gets one."""
        return self.log.entry(deadline - self.settings.request_timeout_s, api_key) if self.log is not None else None

    async def _answer(
        self, variant: Variant, question: Images | Rows, deadline: float, request_id: str, entry: Entry | None = None
    ) -> list[Served]:
        policy = self._find(variant.model)[1]
        if variant.version not in policy.versions:  # it was retired while the request was being read
            if variant.by_number:
                raise VersionNotFound(f"{variant.model} version {variant.version} was just retired")
            variant = champion_of(variant.model, policy)
        served = await self.contest.answer(Asked(policy, variant, question, deadline, request_id, entry))
        self._readiness.note(*{each.variant.key for each in served if isinstance(each.outcome, Answer)})
        return served

    async def status(self, model: str | None = None) -> list[Status]:
        """State of every live version, of one model or of all. Raises ModelNotFound, ModelUnavailable."""
        names = [self._find(model)[0]] if model is not None else list(self._policy.models)
        entries = [(name, self._policy.models[name]) for name in names]
        return await asyncio.gather(
            *(self._status(name, policy, version) for name, policy in entries for version in policy.versions)
        )

    def _find(self, model: str | None) -> tuple[str, ModelPolicy]:
        name = model if model is not None else self._policy.default
        if name in self._policy.awaited:
            raise ModelUnavailable(f"no version of model {name!r} runs yet; try again shortly")
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
        ready = await self._readiness.is_ready(variant.key)
        return Status(variant, policy.share(version), ready, self._lane(variant.key).known)


def _still_allowed(
    before: RoutingPolicy, after: RoutingPolicy, model: str, shares: Mapping[int, float]
) -> dict[int, float]:
    """The shares of those that play the part that they were allowed them for."""
    old, new = before.models.get(model), after.models.get(model)
    if old is None or new is None:
        return {}
    live = set(old.versions) & set(new.versions)
    return {v: share for v, share in shares.items() if v in live and old.variant(v) == new.variant(v)}


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
