"""The way past Ray Serve's handles, at the replica that is called: a gRPC server of its own.

Ray Serve still decides who is called: only it tells where a replica listens and the token that is asked for there.
"""

import asyncio
import hmac
import logging
import os
import pickle
import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import ray
from ray import serve

from deployments.messages import MAX_MESSAGE_BYTES, Reply
from models.errors import UNEXPECTED, TiltyardError

logger = logging.getLogger("ray.serve")

SERVICE, METHOD = "tiltyard.Replica", "Predict"
TOKEN = "tiltyard-token"
OPTIONS = (("grpc.max_send_message_length", MAX_MESSAGE_BYTES), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))

CLOSE_S = 10.0
"""How long calls that are under way may take when the replica is put away."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica is called directly: a gRPC target, and the token that proves that Ray Serve gave it away.

    Nobody has more than `calls` calls on their way to it.
    """

    replica: str
    target: str
    token: str
    calls: int


class BypassServer:
    """Answers calls with `predict`; on this machine over a socket, over TCP once another node asks for it.

    Where Ray is told to use TLS, other nodes go through the handles, which do.
    """

    def __init__(self, predict: Callable[..., Awaitable[Reply]], replica: str, node: str, host: str) -> None:
        self._predict = predict
        self._replica = replica
        self._node = node
        self._host = host
        self._token = secrets.token_hex(16)
        self._opening = asyncio.Lock()
        self._servers: dict[bool, tuple[grpc.aio.Server, str]] = {}

    @classmethod
    def of_replica(cls, predict: Callable[..., Awaitable[Reply]]) -> "BypassServer":
        """That of the replica of Ray Serve that this process is."""
        name = serve.get_replica_context().replica_id.unique_id
        return cls(predict, name, ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())

    async def address(self, node: str, calls: int) -> Address | None:
        """Where somebody on a node calls this; None where that is not offered."""
        is_near = node == self._node
        if not is_near and os.environ.get("RAY_USE_TLS", "0") != "0":
            return None
        async with self._opening:
            if is_near not in self._servers:
                self._servers[is_near] = await self._listen(is_near)
        return Address(self._replica, self._servers[is_near][1], self._token, calls)

    async def close(self) -> None:
        """Take no more calls, and finish those that are under way."""
        await asyncio.gather(*(server.stop(CLOSE_S) for server, _ in self._servers.values()))

    async def _listen(self, is_near: bool) -> tuple[grpc.aio.Server, str]:
        server = grpc.aio.server(options=OPTIONS)
        handler = grpc.unary_unary_rpc_method_handler(self._answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        if is_near and sys.platform == "linux":
            target = f"unix-abstract:tiltyard-{secrets.token_hex(8)}"
            server.add_insecure_port(target)
        else:
            host = "127.0.0.1" if is_near else self._host
            host = f"[{host}]" if ":" in host else host
            target = f"{host}:{server.add_insecure_port(f'{host}:0')}"
        await server.start()
        return server, target

    async def _answer(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer one call. The token comes first: whoever has none must not have anything unpickled."""
        given = dict(context.invocation_metadata() or ()).get(TOKEN, "")
        if not hmac.compare_digest(str(given), self._token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token of this replica")
        outcome: Reply | TiltyardError
        try:
            outcome = await self._predict(*pickle.loads(body))
        except TiltyardError as error:
            outcome = error
        except Exception:
            logger.exception("a call could not be answered")
            outcome = TiltyardError(UNEXPECTED)
        return pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
