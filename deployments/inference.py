"""One backend and its batches: what a ModelServer does with a call, without Ray."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deployments.batch_queue import BatchQueue, Entry, Limits
from deployments.batching import run_batch
from deployments.messages import Answer, ImageRequest, Outcome, Requests, TensorRequest, Timing
from deployments.settings import Batching
from models.backends import Backend
from models.errors import DeadlineExceeded, InvalidRequest, ModelFailed, TiltyardError
from models.preprocessing import Preprocessing, preprocess
from models.signature import Tensors

logger = logging.getLogger("ray.serve")


@dataclass(slots=True)
class _Job:
    """A request in this replica; times are time.perf_counter."""

    request: TensorRequest | ImageRequest
    arrived: float
    preprocess_ms: float = 0.0

    @property
    def is_late(self) -> bool:
        return time.perf_counter() > self.arrived + self.request.timeout_s


class Inference:
    """Answers calls of many requests; a thread that becomes free takes what all waiting calls brought."""

    def __init__(self, name: str, backend: Backend, preprocessing: Preprocessing | None = None) -> None:
        self._name = name
        self._backend = backend
        self._preprocessing = preprocessing
        self._executor: ThreadPoolExecutor | None = None
        self._queue: BatchQueue[list[_Job], list[Outcome]] = BatchQueue(self._run_calls, Limits(1, 1, 0))
        self.apply(Batching())

    def apply(self, batching: Batching) -> None:
        """Obey new limits from the next batch on."""
        self.sizes = batching.sizes(self._backend.signature.batch_size)
        self.max_waiting_rows = batching.max_enqueued_batches * self.sizes.max_rows
        replaced, self._executor = self._executor, ThreadPoolExecutor(batching.num_batch_threads, "batch")
        if replaced is not None:
            replaced.shutdown(wait=False)  # what runs there already, or waits, still finishes
        self._queue.limits = Limits(batching.num_batch_threads, self.sizes.max_rows, self.max_waiting_rows)

    async def predict(self, requests: Requests) -> list[Outcome]:
        """Answer the requests of one call, in their order; images are decoded here. Raises Overloaded."""
        arrived = time.perf_counter()
        jobs = [_Job(request, arrived) for request in requests]
        return await self._queue.submit(jobs, sum(request.rows for request in requests))

    async def _run_calls(self, entries: list[Entry[list[_Job], list[Outcome]]]) -> list[list[Outcome]]:
        jobs = [job for entry in entries for job in entry.item]
        outcomes = iter(await asyncio.get_running_loop().run_in_executor(self._executor, self._run, jobs))
        return [[next(outcomes) for _ in entry.item] for entry in entries]

    def _run(self, jobs: Sequence[_Job]) -> list[Outcome]:
        began = time.perf_counter()
        prepared = [self._prepared(job) for job in jobs]
        started = time.perf_counter()
        ready = [tensors for tensors in prepared if not isinstance(tensors, TiltyardError)]
        outputs = iter(run_batch(self._run_backend, ready, self.sizes))
        results = [tensors if isinstance(tensors, TiltyardError) else next(outputs) for tensors in prepared]
        compute_ms = (time.perf_counter() - started) * 1000
        return [
            result
            if isinstance(result, TiltyardError)
            else Answer(result, Timing(0.0, job.preprocess_ms, (began - job.arrived) * 1000, compute_ms))
            for job, result in zip(jobs, results, strict=True)
        ]

    def _prepared(self, job: _Job) -> Tensors | TiltyardError:
        """What goes into the batch, or why this request does not: the others need not know."""
        if job.is_late:
            return DeadlineExceeded("the answer would come too late")
        try:
            if isinstance(job.request, TensorRequest):
                return self._backend.signature.check(job.request.inputs)
            return self._decoded(job, job.request)
        except TiltyardError as error:
            return error

    def _decoded(self, job: _Job, request: ImageRequest) -> Tensors:
        if self._preprocessing is None:
            raise InvalidRequest("the model takes tensors, not images")
        started = time.perf_counter()
        pixels = preprocess(request.image, self._preprocessing, request.max_pixels)
        job.preprocess_ms = (time.perf_counter() - started) * 1000
        return {self._backend.signature.inputs[0].name: pixels[None]}

    def _run_backend(self, inputs: Tensors) -> Tensors:
        try:
            return self._backend.run(inputs)
        except Exception as error:  # whatever a runtime raises, it must not take the rest of the batch with it
            logger.exception("%s failed", self._name)
            raise ModelFailed(f"{self._name} could not compute an answer") from error
