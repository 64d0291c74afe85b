"""BentoML: a service with one worker per core; the body of a request is its argument."""

import os
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from loadtests.peers.inference import Model


@bentoml.service(
    workers=int(os.environ.get("BENCH_WORKERS", "1")), traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Service:
    """Both kinds of requests."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    def image(self, body: Annotated[bytes, ContentType("image/*")], /) -> list[list[float]]:
        """Classify an encoded image."""
        answer: list[list[float]] = self.model.classify_images([body]).tolist()
        return answer

    @bentoml.api
    def rows(self, instances: list[list[float]]) -> list[list[float]]:
        """Classify rows of numbers."""
        answer: list[list[float]] = self.model.classify_rows(instances).tolist()
        return answer
