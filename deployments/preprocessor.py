"""The preprocessing actor: encoded images in, uint8 tensors on to the model, outcomes back."""

import asyncio
import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deployments.batching import size_of
from deployments.image_features import features_of, sample_of
from deployments.lane import ModelServers
from deployments.messages import MAX_CALL_BYTES, Answer, Capacity, ImageRequest, Reply, Target, TensorRequest
from models.errors import UNEXPECTED, DeadlineExceeded, TiltyardError
from models.features import ImageFeatures, Sample
from models.preprocessing import Preprocessing, picture, to_tensor

logger = logging.getLogger("ray.serve")

Pixels = npt.NDArray[np.uint8]


class Decoded(NamedTuple):
    """A tensor, and what the features of the picture are computed from, where they are wanted."""

    pixels: Pixels
    sample: Sample | None = None


MAX_SHARED = 32
"""Decoded images that wait for a shadow to ask for them."""


class Preprocessor:
    """Decodes images on threads of its own and hands the tensors to the version's ModelServer itself.

    So pixels travel once: what goes back to the Router is the model's answer.
    """

    def __init__(self, model_servers: ModelServers, threads: int, replica: str = "") -> None:
        self._model_servers = model_servers
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, "decode")
        self._capacity = Capacity(replica, calls=threads + 1)
        self._lock = threading.Lock()
        self._shared: dict[tuple[bytes, Preprocessing], Pixels] = {}

    async def describe(self) -> str:
        """Say that it is there."""
        return "preprocessor"

    async def meet(self, model: str, version: int) -> None:
        """Find the way to a version before a picture is on it. Raises a TiltyardError."""
        await self._model_servers.meet(model, version)

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        """Outcomes in the order of the images. A bad image fails alone."""
        started = time.monotonic()
        decoded = await self._decode(requests, target.preprocessing, started)
        now = time.monotonic()
        tensors = [
            TensorRequest(
                {target.input_name: each.pixels[None]}, request.timeout_s - (now - started), request.background
            )
            for request, each in zip(requests, decoded, strict=True)
            if not isinstance(each, TiltyardError)
        ]
        inferring = asyncio.gather(*(self._infer(target, call) for call in calls(tensors)))
        try:
            features = await _features(decoded)
            replies = await inferring
        finally:
            inferring.cancel()  # where this was: nobody waits for the answers
        answers = chain.from_iterable(reply.outcomes for reply in replies)
        outcomes = [each if isinstance(each, TiltyardError) else next(answers) for each in decoded]
        for item, outcome in enumerate(outcomes):
            if isinstance(outcome, Answer):
                outcome.timing.preprocess_ms = (now - started) * 1000
                if item in features:
                    outcomes[item] = replace(outcome, features=features[item])
        return Reply(
            outcomes, next((reply.model_server for reply in replies if reply.model_server), None), self._capacity
        )

    async def _infer(self, target: Target, requests: list[TensorRequest]) -> Reply:
        """Ask the version; where the call as a whole fails, so does each request of it, but not the bad images."""
        try:
            return await self._model_servers.predict(target.model, target.version, requests)
        except TiltyardError as error:
            return Reply([error] * len(requests), None)

    async def _decode(
        self, requests: Sequence[ImageRequest], preprocessing: Preprocessing, started: float
    ) -> list[Decoded | TiltyardError]:
        """Decode on all threads, a share of the images on each."""

        def decode(share: Sequence[ImageRequest]) -> list[Decoded | TiltyardError]:
            return [self._decode_one(request, preprocessing, started) for request in share]

        loop = asyncio.get_running_loop()
        step = -(-len(requests) // self._threads)
        shares = [requests[start : start + step] for start in range(0, len(requests), step)]
        decoded = await asyncio.gather(*(loop.run_in_executor(self._executor, decode, share) for share in shares))
        return list(chain.from_iterable(decoded))

    def _decode_one(
        self, request: ImageRequest, preprocessing: Preprocessing, started: float
    ) -> Decoded | TiltyardError:
        if time.monotonic() > started + request.timeout_s:
            return DeadlineExceeded("the answer would come too late")
        try:
            if request.background and (kept := self._taken(request.image, preprocessing)) is not None:
                return Decoded(kept)
            read = picture(request.image, preprocessing, request.max_pixels)
            decoded = Decoded(to_tensor(read, preprocessing), sample_of(read) if request.wants_features else None)
            if request.shared:
                self._keep(request.image, preprocessing, decoded.pixels)
            return decoded
        except TiltyardError as error:
            return error
        except Exception:
            logger.exception("an image could not be decoded")
            return TiltyardError(UNEXPECTED)

    def _keep(self, image: bytes, preprocessing: Preprocessing, pixels: Pixels) -> None:
        """Keep a tensor for the shadow that will ask for it in a moment; the oldest go where none asks."""
        with self._lock:
            self._shared[_digest(image), preprocessing] = pixels
            while len(self._shared) > MAX_SHARED:
                self._shared.pop(next(iter(self._shared)))

    def _taken(self, image: bytes, preprocessing: Preprocessing) -> Pixels | None:
        """The tensor that was kept, once."""
        with self._lock:
            return self._shared.pop((_digest(image), preprocessing), None)


async def _features(decoded: Sequence[Decoded | TiltyardError]) -> dict[int, ImageFeatures]:
    """Features of the images that have a sample, while the model computes; others have their turn after each."""
    features: dict[int, ImageFeatures] = {}
    for item, each in enumerate(decoded):
        if not isinstance(each, TiltyardError) and each.sample is not None:
            await asyncio.sleep(0)  # what was asked before is sent first
            features |= features_of({item: each.sample})
    return features


def _digest(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()


def calls(requests: Sequence[TensorRequest]) -> list[list[TensorRequest]]:
    """Requests in as few calls as the largest message allows."""
    made: list[list[TensorRequest]] = []
    size_bytes = MAX_CALL_BYTES
    for request in requests:
        size = size_of(request.inputs)
        if size_bytes + size > MAX_CALL_BYTES:
            made.append([])
            size_bytes = 0
        made[-1].append(request)
        size_bytes += size
    return made
