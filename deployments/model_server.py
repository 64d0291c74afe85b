"""The autoscaled model replica: one version behind `@serve.batch`."""

import asyncio
import logging
import threading
from functools import partial
from typing import Any, ClassVar

import ray
from pydantic import BaseModel
from ray import serve

from deployments.inference import Call, Inference
from deployments.messages import Capacity, Description, Outcome, Reply, Requests
from deployments.precedence import step_back, take_precedence
from deployments.predicting_replica import PredictingReplica
from deployments.settings import Batching, VersionSettings
from models.store import Store
from models.version import load_version, prepare

logger = logging.getLogger(__name__)


class ModelServer(PredictingReplica):
    """One version. It is ready once the artifact is verified, warm and reproduces its golden outputs."""

    user_config_type: ClassVar[type[BaseModel]] = Batching

    def __init__(self, settings: VersionSettings) -> None:
        threads = settings.threads or max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        name = f"{settings.model} version {settings.version}"
        store = Store(settings.store)
        loaded = load_version(store, settings.model, settings.version, threads, settings.artifact, settings.provider)
        self._manifest = loaded.manifest
        self._decodes = settings.preprocessing == "inline"
        self._replica = serve.get_replica_context().replica_id.unique_id
        self._inference = Inference(name, loaded.backend, loaded.manifest.preprocessing)
        directory = store.directory(settings.model, settings.version)
        self._prepare = partial(prepare, directory, loaded, artifact=settings.artifact)
        self._preparing = threading.Lock()
        self._prepare(Batching().prepared_sizes)
        self._apply(Batching())
        super().__init__(self.predict)
        take_precedence()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply new batching without a restart."""
        batching = Batching.model_validate(user_config)
        self._apply(batching)
        threading.Thread(target=self._prepare_beside, args=(batching,), name="prepare", daemon=True).start()

    def describe(self) -> Description:
        """What this replica runs; an answer says that it is ready."""
        return Description(self._manifest, self._capacity)

    async def predict(self, requests: Requests) -> Reply:
        """Answer the requests of one call, in their order."""
        call = Call(requests)
        try:
            outcomes: list[Outcome] | BaseException = await self._merge(call)
        except asyncio.CancelledError:
            call.is_abandoned = True  # what waits of it is not run
            raise
        if isinstance(outcomes, BaseException):
            raise outcomes
        return Reply(outcomes, self._capacity)

    # It never holds a batch back: what it has closed meets again where a thread becomes free. 8 x 32 calls are as many
    # as a replica takes through its handle, and more than lanes have on their way to it.
    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0, max_concurrent_batches=32)  # type: ignore[untyped-decorator]
    async def _merge(self, calls: list[Call]) -> list[list[Outcome] | BaseException]:
        """Take calls of several Routers together; an error is for its call alone."""
        return await asyncio.gather(*map(self._inference.predict, calls), return_exceptions=True)

    def _prepare_beside(self, batching: Batching) -> None:
        """Prepare for new sizes while others are answered; until then, and where it fails, they take longer."""
        step_back()
        with self._preparing:
            try:
                self._prepare(batching.prepared_sizes)
            except Exception:
                logger.exception("batches of %s rows could not be prepared for", batching.prepared_sizes)

    def _apply(self, batching: Batching) -> None:
        self._inference.apply(batching)
        self._capacity = Capacity(
            self._replica,
            calls=batching.num_batch_threads + 1,
            max_rows=self._inference.max_rows,
            max_waiting_rows=self._inference.max_waiting_rows,
            decodes=self._decodes,
        )
