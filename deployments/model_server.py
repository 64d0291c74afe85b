"""The autoscaled model replica: one version behind `@serve.batch`."""

import asyncio
from typing import Any, ClassVar

import ray
from pydantic import BaseModel
from ray import serve

from deployments.inference import Inference
from deployments.messages import Capacity, Description, Outcome, Reply, Requests
from deployments.settings import Batching, VersionSettings
from models.store import Store
from models.version import load_version

MAX_MERGES = 64
"""`@serve.batch` never holds a batch back: batches that it has closed meet again where a thread becomes free."""


class ModelServer:
    """One version. It is ready once the artifact is verified, warm and reproduces its golden outputs."""

    user_config_type: ClassVar[type[BaseModel]] = Batching

    def __init__(self, settings: VersionSettings) -> None:
        threads = settings.threads or max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        name = f"{settings.model} version {settings.version}"
        loaded = load_version(
            Store(settings.store), settings.model, settings.version, threads, settings.artifact, settings.provider
        )
        self._manifest = loaded.manifest
        self._decodes = settings.preprocessing == "inline"
        self._replica = serve.get_replica_context().replica_id.unique_id
        self._inference = Inference(name, loaded.backend, loaded.manifest.preprocessing)
        self._apply(Batching())

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply new batching without a restart."""
        self._apply(Batching.model_validate(user_config))

    def describe(self) -> Description:
        """What this replica runs; an answer says that it is ready."""
        return Description(self._manifest, self._capacity, self._decodes)

    async def predict(self, requests: Requests) -> Reply:
        """Answer the requests of one call, in their order. Raises Overloaded."""
        outcomes: list[Outcome] | BaseException = await self._merge(requests)
        if isinstance(outcomes, BaseException):
            raise outcomes
        return Reply(outcomes, self._capacity)

    @serve.batch(max_concurrent_batches=MAX_MERGES)  # type: ignore[untyped-decorator]
    async def _merge(self, calls: list[Requests]) -> list[list[Outcome] | BaseException]:
        """Take calls of several Routers together, those that come within the wait; an error is for its call alone."""
        return await asyncio.gather(*map(self._inference.predict, calls), return_exceptions=True)

    def _apply(self, batching: Batching) -> None:
        self._inference.apply(batching)
        self._merge.set_max_batch_size(batching.max_batch_size)
        self._merge.set_batch_wait_timeout_s(batching.batch_timeout_micros / 1_000_000)
        self._capacity = Capacity(
            self._replica,
            calls=batching.num_batch_threads + 1,
            max_rows=self._inference.sizes.max_rows,
            max_waiting_rows=self._inference.max_waiting_rows,
        )
