"""A version's lane through the Router: its requests become few calls, and wait for no other version's."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from deployments.batch_queue import BatchQueue, Entry, Limits
from deployments.batching import join, pieces, size_of
from deployments.fleet import Fleet
from deployments.messages import (
    Answer,
    Description,
    ImageRequest,
    Outcome,
    Reply,
    Requests,
    Target,
    TensorRequest,
    Timing,
)
from models.errors import ModelUnavailable, Overloaded, TiltyardError
from models.manifest import Manifest
from models.signature import Tensors, rows_of


class ModelServers(Protocol):
    """The live versions."""

    async def describe(self, model: str, version: int) -> Description:
        """What a version is. Raises a TiltyardError."""

    async def meet(self, model: str, version: int) -> None:
        """Find the way to a version before a request is on it. Raises a TiltyardError."""

    async def predict(self, model: str, version: int, requests: Requests) -> Reply:
        """Have a version answer; images only where its description says that it decodes. Raises a TiltyardError."""


class Preprocessors(Protocol):
    """Whatever turns images into tensors and has a version answer them."""

    async def describe(self) -> str:
        """Say that it is there. Raises a TiltyardError."""

    async def meet(self, model: str, version: int) -> None:
        """Find the way to a version before a picture is on it. Raises a TiltyardError."""

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        """Decode, and have a version answer. Raises a TiltyardError."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Tensors or an encoded image, the time.monotonic() by which the answer is wanted, and how it is asked for."""

    item: Any
    deadline: float
    background: bool = False
    shared: bool = False
    wants_features: bool = False


class Lane:
    """The queues of one version: one of tensors, one of images, each with as many calls in flight as pays."""

    def __init__(
        self,
        model: str,
        version: int,
        model_servers: ModelServers,
        preprocessors: Preprocessors,
        preprocessor_fleet: Fleet,
        max_pixels: int,
    ) -> None:
        self._model = model
        self._version = version
        self._model_servers = model_servers
        self._preprocessors = preprocessors
        self._preprocessor_fleet = preprocessor_fleet
        self._max_pixels = max_pixels
        self._fleet = Fleet()
        limits = Limits(workers=1, max_rows=1, max_waiting_rows=0)
        self._tensors: BatchQueue[Pending, Outcome] = BatchQueue(self._send_tensors, limits)
        self._images: BatchQueue[Pending, Outcome] = BatchQueue(self._send_images, limits)
        self.description: Description | None = None
        self._describing: asyncio.Future[Description] | None = None
        self.requests = 0
        """Requests for this version that are being answered."""

    @property
    def known(self) -> Manifest | None:
        """What the version said it is; None as long as it has not been asked."""
        return self.description.manifest if self.description else None

    @property
    def decodes(self) -> bool:
        """Whether its replicas decode images themselves."""
        return self._fleet.decodes

    async def describe(self) -> Description:
        """Ask the version what it is, and what it has room for. Raises a TiltyardError."""
        self.description = await self._model_servers.describe(self._model, self._version)
        self._fleet.note(self.description.capacity)
        self._adjust()
        return self.description

    async def manifest(self) -> Manifest:
        """What the version is, asked once for all who want to know: versions do not change. Raises a TiltyardError."""
        if self.description is None:
            if self._describing is None:
                self._describing = asyncio.ensure_future(self.describe())
                self._describing.add_done_callback(self._described)
            await asyncio.shield(self._describing)
        assert self.description is not None
        return self.description.manifest

    async def meet(self) -> None:
        """Find out what the version is, and the way to it, before a request needs both. Raises a TiltyardError."""
        sends_pixels = (await self.manifest()).preprocessing is not None and not self.decodes
        who: Preprocessors | ModelServers = self._preprocessors if sends_pixels else self._model_servers
        await who.meet(self._model, self._version)

    def _described(self, describing: "asyncio.Future[Description]") -> None:
        self._describing = None
        if not describing.cancelled():
            describing.exception()  # whoever waited for it was told

    async def predict(self, inputs: Tensors, deadline: float, background: bool = False) -> Answer:
        """Answer rows [rows, ...]; more than a batch may have go in pieces. Raises a TiltyardError."""
        await self.manifest()
        self._tensors.admit()
        outcomes = await _gathered(
            [
                partial(self._tensors.submit, Pending(piece, deadline, background), rows_of(piece), size_of(piece))
                for piece in pieces(inputs, self._fleet.max_rows)
            ]
        )
        answers = [answered(outcome) for outcome in outcomes]
        return answers[0] if len(answers) == 1 else _joined(answers)

    async def predict_images(
        self,
        images: Sequence[bytes],
        deadline: float,
        background: bool = False,
        shared: bool = False,
        wants_features: bool = False,
    ) -> list[Outcome]:
        """Outcomes in the order of the images: a bad one fails alone. Raises a TiltyardError where nobody answers."""
        await self.manifest()
        self._images.admit()
        pending = [Pending(image, deadline, background, shared, wants_features) for image in images]
        outcomes = await _gathered([partial(self._images.submit, each, 1, len(each.item)) for each in pending])
        if outcomes and all(isinstance(outcome, Overloaded | ModelUnavailable) for outcome in outcomes):
            answered(outcomes[0])
        return outcomes

    async def _send_tensors(self, entries: list[Entry[Pending, Outcome]]) -> list[Outcome]:
        now = time.monotonic()
        requests = [
            TensorRequest(each.item, each.deadline - now, each.background) for each in (entry.item for entry in entries)
        ]
        return self._noted(await self._model_servers.predict(self._model, self._version, requests), entries)

    async def _send_images(self, entries: list[Entry[Pending, Outcome]]) -> list[Outcome]:
        now = time.monotonic()
        requests = [
            ImageRequest(
                each.item, each.deadline - now, self._max_pixels, each.background, each.shared, each.wants_features
            )
            for each in (entry.item for entry in entries)
        ]
        return self._noted(await self._send_to_decoder(requests), entries)

    async def _send_to_decoder(self, requests: list[ImageRequest]) -> Reply:
        manifest = await self.manifest()
        if self.decodes:
            return await self._model_servers.predict(self._model, self._version, requests)
        assert manifest.preprocessing is not None
        target = Target(self._model, self._version, manifest.signature.inputs[0].name, manifest.preprocessing)
        return await self._preprocessors.predict(requests, target)

    def _noted(self, reply: Reply, entries: list[Entry[Pending, Outcome]]) -> list[Outcome]:
        """The outcomes, with the time that each waited here."""
        if reply.model_server is not None:
            self._fleet.note(reply.model_server)
        if reply.preprocessor is not None:
            self._preprocessor_fleet.note(reply.preprocessor)
        self._adjust()
        for outcome, entry in zip(reply.outcomes, entries, strict=True):
            if isinstance(outcome, Answer):
                outcome.timing.queue_ms = entry.waited_ms
        return reply.outcomes

    def _adjust(self) -> None:
        """Let in flight what the replicas have room for; images wait for a decoder or a model."""
        limits = Limits(self._fleet.calls, self._fleet.max_rows, self._fleet.max_waiting_rows)
        self._tensors.limits = limits
        ahead = 0 if self.decodes else self._preprocessor_fleet.calls
        self._images.limits = replace(limits, workers=limits.workers + ahead)


def _joined(answers: Sequence[Answer]) -> Answer:
    """One answer of those of its pieces."""
    embeddings = [answer.embedding for answer in answers if answer.embedding is not None]
    return Answer(
        join([answer.outputs for answer in answers]),
        Timing.longest([answer.timing for answer in answers]),
        np.concatenate(embeddings) if len(embeddings) == len(answers) else None,
    )


def answered(outcome: Outcome) -> Answer:
    """The answer, or raise why there is none."""
    if isinstance(outcome, TiltyardError):
        raise outcome
    return outcome


async def _gathered(submits: Sequence[Callable[[], Awaitable[Outcome]]]) -> list[Outcome]:
    """Outcomes in order, with a failed call as the outcome of those it befell."""
    if len(submits) == 1:
        return [await _outcome(submits[0])]
    return await asyncio.gather(*map(_outcome, submits))


async def _outcome(submit: Callable[[], Awaitable[Outcome]]) -> Outcome:
    try:
        return await submit()
    except TiltyardError as error:
        return error
