"""The autoscaled model replica: one backend behind `@serve.batch`."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import ray
from pydantic import BaseModel
from ray import serve

from deployments.answer import Answer, Timing
from deployments.batching import run_batch
from deployments.settings import MAX_CONCURRENT_BATCHES, Batching, VersionSettings
from models.errors import ModelFailed
from models.manifest import Manifest
from models.signature import Tensors
from models.store import Store
from models.version import load_version

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class _Item:
    inputs: Tensors
    arrived: float


class ModelServer:
    """One version. It is ready once the artifact is verified, warm and reproduces its golden outputs."""

    user_config_type: ClassVar[type[BaseModel]] = Batching

    def __init__(self, settings: VersionSettings) -> None:
        threads = settings.threads or max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        self._name = f"{settings.model} version {settings.version}"
        self._loaded = load_version(Store(settings.store), settings.model, settings.version, threads, settings.artifact)
        self._signature = self._loaded.backend.signature
        self._executor: ThreadPoolExecutor | None = None
        self._apply(Batching())

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply new batching without a restart."""
        self._apply(Batching.model_validate(user_config))

    def describe(self) -> Manifest:
        """What this replica runs; an answer says that it is ready."""
        return self._loaded.manifest

    async def predict(self, inputs: Tensors) -> Answer:
        """Run any number of rows. Raises InvalidTensor or ModelFailed."""
        item = _Item(self._signature.check(inputs), time.perf_counter())
        outcome: Answer | ModelFailed = await self._predict_batch(item)
        if isinstance(outcome, ModelFailed):
            raise outcome
        return outcome

    # The bound is on closed batches; how many of them run at once is the number of threads below, because
    # @serve.batch can change its size and wait while it runs, but not this.
    @serve.batch(max_concurrent_batches=MAX_CONCURRENT_BATCHES)  # type: ignore[untyped-decorator]
    async def _predict_batch(self, items: list[_Item]) -> list[Answer | ModelFailed]:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, items)

    def _run(self, items: list[_Item]) -> list[Answer | ModelFailed]:
        started = time.perf_counter()
        outcomes = run_batch(
            self._run_backend,
            [item.inputs for item in items],
            self._batching.max_batch_size,
            self._signature.batch_size,
        )
        compute_ms = (time.perf_counter() - started) * 1000
        return [
            outcome
            if isinstance(outcome, ModelFailed)
            else Answer(outcome, Timing(queue_ms=(started - item.arrived) * 1000, compute_ms=compute_ms))
            for item, outcome in zip(items, outcomes, strict=True)
        ]

    def _run_backend(self, inputs: Tensors) -> Tensors:
        try:
            return self._loaded.backend.run(inputs)
        except Exception as error:  # whatever a runtime raises, it must not take the rest of the batch with it
            logger.exception("%s failed", self._name)
            raise ModelFailed(f"{self._name} could not compute an answer") from error

    def _apply(self, batching: Batching) -> None:
        self._batching = batching
        replaced, self._executor = self._executor, ThreadPoolExecutor(batching.max_concurrent_batches, "batch")
        if replaced is not None:
            replaced.shutdown(wait=False)  # what runs there already, or waits, still finishes
        fixed_rows = self._signature.batch_size
        self._predict_batch.set_max_batch_size(min(batching.max_batch_size, fixed_rows or batching.max_batch_size))
        self._predict_batch.set_batch_wait_timeout_s(batching.batch_wait_timeout_s)
