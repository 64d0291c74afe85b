"""A replica that predicts, as its callers see it: reached through Ray Serve's handles, and past them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from deployments.bypass_server import Address, BypassServer
from deployments.messages import Reply


class PredictingReplica:
    """What ModelServer and Preprocessor have in common."""

    def __init__(self, predict: Callable[..., Awaitable[Reply]]) -> None:
        self._predict = predict
        self._bypass = BypassServer.of_replica(predict)

    def __del__(self) -> Awaitable[None] | None:
        """Finish what came past Ray Serve, which calls this once it has nothing left itself, and waits."""
        bypass: BypassServer | None = getattr(self, "_bypass", None)  # None where __init__ raised
        return bypass.close() if bypass is not None else None

    async def predict_as_stream(self, *arguments: Any) -> AsyncIterator[Reply]:
        """Answer what `predict` takes with a stream of one item (see handles.streaming)."""
        yield await self._predict(*arguments)

    async def introduce(self, node: str, busy_s: float) -> AsyncIterator[Address | None]:
        """Say where somebody on a node calls this replica directly, and be busy for so long (see bypass.py)."""
        yield await self._bypass.address(node)
        await asyncio.sleep(busy_s)
