"""Small stand-ins for what a test does not ask."""

import time
from collections.abc import Sequence

from deployments.messages import ImageRequest, Reply, Target


class Near:
    """The way to it needs not be found."""

    async def meet(self, model: str, version: int) -> None:
        pass


class NoImages(Near):
    """A Preprocessor that is never asked."""

    async def describe(self) -> str:
        return "here"

    async def predict(self, requests: Sequence[ImageRequest], target: Target) -> Reply:
        raise AssertionError


def soon() -> float:
    """A deadline that no test reaches, as time.monotonic()."""
    return time.monotonic() + 30
