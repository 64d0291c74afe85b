"""Ray Serve: an ingress that hands to a preprocessor, whose answer it hands to a batched model."""

import os
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from loadtests.peers.inference import Model, pixels_from_environment

BATCH = int(os.environ.get("BENCH_BATCH", "1"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
# A deployment asks for a whole core by default: four of them would wait for ever on two.
SHARE = {"num_cpus": 0.2}


@serve.deployment(ray_actor_options=SHARE)
class Preprocessor:
    """Encoded image in, pixels out."""

    def __init__(self) -> None:
        self.model = Model()

    def __call__(self, image: bytes) -> Any:
        """Decode."""
        return self.model.decode(image)


@serve.deployment(num_replicas=WORKERS, ray_actor_options=SHARE)
class Classifier:
    """One row in, its class probabilities out; rows that come together are one batch."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=BATCH)
    async def __call__(self, rows: list[Any]) -> list[Any]:
        """Classify a batch."""
        answers: list[Any] = self.model.run(np.stack(rows)).tolist()
        return answers


@serve.deployment(ray_actor_options=SHARE)
class Ingress:
    """HTTP."""

    def __init__(self, preprocessor: DeploymentHandle, classifier: DeploymentHandle) -> None:
        self.preprocessor = preprocessor
        self.classifier = classifier

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Classify an image, or one row of numbers."""
        if pixels_from_environment():
            row = self.preprocessor.remote(await request.body())
        else:
            row = np.asarray((await request.json())["instances"][0], np.float32)
        return {"predictions": [await self.classifier.remote(row)]}


if __name__ == "__main__":
    ray.init(address="local", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(
        Ingress.bind(Preprocessor.bind(), Classifier.bind()),  # type: ignore[attr-defined]
        blocking=True,
    )
