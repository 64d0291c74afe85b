"""One backend and its batches: what a ModelServer does with a call, without Ray."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from deployments.batch_queue import BatchQueue, Entry, Limits
from deployments.batching import run_batch
from deployments.image_features import features_of, sample_of
from deployments.messages import Answer, ImageRequest, Outcome, Requests, TensorRequest, Timing
from deployments.precedence import give_way
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


class Ran(NamedTuple):
    """What came of a request, and how long its portion of the batch was prepared and computed."""

    result: Tensors | TiltyardError
    preprocess_ms: float
    compute_ms: float


def _give_way() -> None:
    """Let this thread, and no other of the process, have what the rest of the machine leaves."""
    give_way(threading.get_native_id())


class Inference:
    """Answers calls of many requests; a thread that becomes free takes what all waiting calls brought."""

    def __init__(self, name: str, backend: Backend, preprocessing: Preprocessing | None = None) -> None:
        self._name = name
        self._backend = backend
        self._preprocessing = preprocessing
        self._executor: ThreadPoolExecutor | None = None
        self._beside = ThreadPoolExecutor(1, "features")
        self._background = ThreadPoolExecutor(1, "background", initializer=_give_way)
        self._queue: BatchQueue[Call, list[Outcome]] = BatchQueue(self._run_calls, Limits(1, 1, 0))
        self.apply(Batching())

    def apply(self, batching: Batching) -> None:
        """Obey new limits from the next batch on."""
        self.sizes = batching.sizes(self._backend.signature.batch_size)
        self.max_rows = batching.max_rows(self._backend.signature.batch_size)
        self.max_waiting_rows = batching.max_waiting_rows(self._backend.signature.batch_size)
        timeout_s = batching.batch_timeout_micros / 1_000_000
        replaced, self._executor = self._executor, ThreadPoolExecutor(batching.num_batch_threads, "batch")
        if replaced is not None:
            replaced.shutdown(wait=False)  # what runs there already, or waits, still finishes
        # The Routers bound what waits; refusing here what they have admitted would be too late.
        self._queue.limits = Limits(batching.num_batch_threads, self.max_rows, sys.maxsize, timeout_s=timeout_s)

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
        features: list[Future[dict[int, ImageFeatures]]] = []
        requests = [(call, request) for call in calls for request in call.requests]
        ran: list[Ran] = []
        for portion in _portions([request.rows for _, request in requests], self.sizes.max_rows):
            started, samples = time.perf_counter(), dict[int, Sample]()
            prepared = [self._prepared(*requests[place], samples, place) for place in portion]
            ready_at = time.perf_counter()
            if samples:
                features.append(self._beside.submit(features_of, samples))
            ready = [tensors for tensors in prepared if not isinstance(tensors, TiltyardError)]
            outputs = iter(run_batch(self._run_backend, ready, self.sizes))
            results = [tensors if isinstance(tensors, TiltyardError) else next(outputs) for tensors in prepared]
            computed_at = time.perf_counter()
            ran += [Ran(each, (ready_at - started) * 1000, (computed_at - ready_at) * 1000) for each in results]
        known = {place: each for some in features for place, each in some.result().items()}
        ended = time.perf_counter()
        return [
            each.result
            if isinstance(each.result, TiltyardError)
            else _answer(each, (ended - call.arrived) * 1000, known.get(place))
            for place, (each, (call, _)) in enumerate(zip(ran, requests, strict=True))
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


def _portions(rows: Sequence[int], max_rows: int) -> Iterator[range]:
    """Places of neighbours that have no more rows together than are computed at once; who has more is alone."""
    start = taken = 0
    for place, count in enumerate(rows):
        if taken and taken + count > max_rows:
            yield range(start, place)
            start, taken = place, 0
        taken += count
    if rows:
        yield range(start, len(rows))


def _answer(ran: Ran, took_ms: float, features: ImageFeatures | None) -> Answer:
    """What the model said, and apart from it the embedding, which went through the batch as if it were an output.

    What it `took` and was not its own, it waited for others.
    """
    assert not isinstance(ran.result, TiltyardError)
    timing = Timing(0.0, ran.preprocess_ms, took_ms - ran.preprocess_ms - ran.compute_ms, ran.compute_ms)
    if EMBEDDING not in ran.result:
        return Answer(ran.result, timing, None, features)
    said = dict(ran.result)
    return Answer(said, timing, said.pop(EMBEDDING), features)
