"""One backend and its batches: what a ModelServer does with a call, without Ray."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from deployments.batch_queue import BatchQueue, Entry, Limits
from deployments.batching import run_batch
from deployments.image_features import features_of, sample_of
from deployments.messages import Answer, ImageRequest, Outcome, Requests, TensorRequest, Timing
from deployments.settings import Batching
from models.backends import EMBEDDING, Backend
from models.errors import UNEXPECTED, DeadlineExceeded, InvalidRequest, ModelFailed, TiltyardError
from models.features import ImageFeatures, Sample
from models.preprocessing import Preprocessing, picture, to_tensor
from models.signature import Tensors

logger = logging.getLogger("ray.serve")


@dataclass(slots=True, eq=False)
class Call:
    """The requests of one call, when it came (time.perf_counter), and whether the caller has gone since."""

    requests: Requests
    arrived: float = field(default_factory=time.perf_counter)
    is_abandoned: bool = False

    @property
    def rows(self) -> int:
        """Rows that it adds to a batch."""
        return sum(request.rows for request in self.requests)

    def is_late(self, request: TensorRequest | ImageRequest) -> bool:
        """Whether the answer to one of its requests would help nobody."""
        return self.is_abandoned or time.perf_counter() > self.arrived + request.timeout_s


def _yield_to_others() -> None:
    """Give this thread, and no other of the process, what the rest of the machine leaves."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # whoever else wakes up goes first


class Inference:
    """Answers calls of many requests; a thread that becomes free takes what all waiting calls brought."""

    def __init__(self, name: str, backend: Backend, preprocessing: Preprocessing | None = None) -> None:
        self._name = name
        self._backend = backend
        self._preprocessing = preprocessing
        self._executor: ThreadPoolExecutor | None = None
        self._beside = ThreadPoolExecutor(1, "features")
        self._background = ThreadPoolExecutor(1, "background", initializer=_yield_to_others)
        self._queue: BatchQueue[Call, list[Outcome]] = BatchQueue(self._run_calls, Limits(1, 1, 0))
        self.apply(Batching())

    def apply(self, batching: Batching) -> None:
        """Obey new limits from the next batch on."""
        self.sizes = batching.sizes(self._backend.signature.batch_size)
        timeout_s = batching.batch_timeout_micros / 1_000_000
        replaced, self._executor = self._executor, ThreadPoolExecutor(batching.num_batch_threads, "batch")
        if replaced is not None:
            replaced.shutdown(wait=False)  # what runs there already, or waits, still finishes
        # The Routers bound what waits; refusing here what they have admitted would be too late.
        self._queue.limits = Limits(batching.num_batch_threads, self.sizes.max_rows, sys.maxsize, timeout_s=timeout_s)

    async def predict(self, call: Call) -> list[Outcome]:
        """Answer the requests of a call, in their order; images are decoded here."""
        return await self._queue.submit(call, call.rows)

    async def _run_calls(self, entries: list[Entry[Call, list[Outcome]]]) -> list[list[Outcome]]:
        calls = [entry.item for entry in entries]
        is_awaited = any(not request.background for call in calls for request in call.requests)
        executor = self._executor if is_awaited else self._background
        outcomes = iter(await asyncio.get_running_loop().run_in_executor(executor, self._run, calls))
        return [[next(outcomes) for _ in call.requests] for call in calls]

    def _run(self, calls: Sequence[Call]) -> list[Outcome]:
        began = time.perf_counter()
        samples: dict[int, Sample] = {}
        requests = [(call, request) for call in calls for request in call.requests]
        prepared = [self._prepared(*each, samples, place) for place, each in enumerate(requests)]
        started = time.perf_counter()
        features = self._beside.submit(features_of, samples) if samples else None
        ready = [tensors for tensors in prepared if not isinstance(tensors, TiltyardError)]
        outputs = iter(run_batch(self._run_backend, ready, self.sizes))
        results = [tensors if isinstance(tensors, TiltyardError) else next(outputs) for tensors in prepared]
        preprocess_ms = (started - began) * 1000
        compute_ms = (time.perf_counter() - started) * 1000
        waits_ms = [(began - call.arrived) * 1000 for call, _ in requests]
        known = features.result() if features is not None else {}
        return [
            result
            if isinstance(result, TiltyardError)
            else _answer(result, Timing(0.0, preprocess_ms, wait_ms, compute_ms), known.get(place))
            for place, (result, wait_ms) in enumerate(zip(results, waits_ms, strict=True))
        ]

    def _prepared(
        self, call: Call, request: TensorRequest | ImageRequest, samples: dict[int, Sample], place: int
    ) -> Tensors | TiltyardError:
        """What goes into the batch, or why this request does not: the others need not know."""
        if call.is_late(request):
            return DeadlineExceeded("the answer would come too late")
        try:
            if isinstance(request, TensorRequest):
                return self._backend.signature.check(request.inputs)
            return self._decoded(request, samples, place)
        except TiltyardError as error:
            return error
        except Exception:
            logger.exception("%s could not prepare a request", self._name)
            return TiltyardError(UNEXPECTED)

    def _decoded(self, request: ImageRequest, samples: dict[int, Sample], place: int) -> Tensors:
        if self._preprocessing is None:
            raise InvalidRequest("the model takes tensors, not images")
        read = picture(request.image, self._preprocessing, request.max_pixels)
        pixels = to_tensor(read, self._preprocessing)
        if request.wants_features and (taken := sample_of(read)) is not None:
            samples[place] = taken
        return {self._backend.signature.inputs[0].name: pixels[None]}

    def _run_backend(self, inputs: Tensors) -> Tensors:
        try:
            return self._backend.run_with_embedding(inputs)
        except Exception as error:  # whatever a runtime raises, it must not take the rest of the batch with it
            logger.exception("%s failed", self._name)
            raise ModelFailed(f"{self._name} could not compute an answer") from error


def _answer(outputs: Tensors, timing: Timing, features: ImageFeatures | None) -> Answer:
    """What the model said, and apart from it the embedding, which went through the batch as if it were an output."""
    if EMBEDDING not in outputs:
        return Answer(outputs, timing, None, features)
    said = dict(outputs)
    return Answer(said, timing, said.pop(EMBEDDING), features)
