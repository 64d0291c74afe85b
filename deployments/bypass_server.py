"""The way past Ray Serve's handles, at the replica that is called: a gRPC server of its own.

Ray Serve still decides who is called: only it tells where a replica listens, and the secret of that place.
"""

import asyncio
import hashlib
import hmac
import logging
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import ray
from ray import serve

from deployments.messages import MAX_MESSAGE_BYTES, Reply
from models.errors import UNEXPECTED, TiltyardError

logger = logging.getLogger("ray.serve")

SERVICE, METHOD = "tiltyard.Replica", "Predict"
OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # http_proxy is for the world outside
)
PINGS = (("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),)
"""Callers ask every ten seconds whether this is alive (bypass.KEEPALIVE); gRPC would take that for an attack."""

SEAL_BYTES = 16

LEAVING = b"leaving"
"""Answered in place of a reply by a replica that takes no more calls."""

LEAVING_S = 0.5
CLOSE_S = 10.0
"""A replica that is put away says so for a while, then finishes what is under way."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica is called directly: a gRPC target, and the secret that both ends seal what they send with.

    On a socket that nobody else can reach there is none. Nobody has more than `calls` calls on their way to it.
    """

    replica: str
    target: str
    secret: bytes
    calls: int


class WrongSeal(Exception):
    """Whoever sent this does not know the secret, so it must not be unpickled."""


def seal(secret: bytes, message: Any) -> bytes:
    """Pickle a message, where there is a secret behind a keyed BLAKE2b of it."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    if not secret:
        return body
    return hashlib.blake2b(body, key=secret, digest_size=SEAL_BYTES).digest() + body


def unseal(secret: bytes, sealed: bytes) -> Any:
    """Unpickle a message that somebody sealed who knows the secret. Raises WrongSeal."""
    if not secret:
        return pickle.loads(sealed)
    body = memoryview(sealed)[SEAL_BYTES:]
    expected = hashlib.blake2b(body, key=secret, digest_size=SEAL_BYTES).digest()
    if not hmac.compare_digest(sealed[:SEAL_BYTES], expected):
        raise WrongSeal
    return pickle.loads(body)


class BypassServer:
    """Answers calls with `predict`; on this machine over a socket, over TCP once another node asks for it.

    Where Ray is told to use TLS, other nodes go through the handles, which do.
    """

    def __init__(self, predict: Callable[..., Awaitable[Reply]], replica: str, node: str, host: str) -> None:
        self._predict = predict
        self._replica = replica
        self._node = node
        self._host = host
        self._secret = secrets.token_bytes(32)
        self._opening = asyncio.Lock()
        self._servers: dict[bool, tuple[grpc.aio.Server, str]] = {}
        self._directory: Path | None = None
        self._is_leaving = False

    @classmethod
    def of_replica(cls, predict: Callable[..., Awaitable[Reply]]) -> "BypassServer":
        """That of the replica of Ray Serve that this process is."""
        name = serve.get_replica_context().replica_id.unique_id
        return cls(predict, name, ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())

    async def address(self, node: str, calls: int) -> Address | None:
        """Where somebody on a node calls this; None where that is not offered."""
        is_near = node == self._node
        if self._is_leaving or (not is_near and os.environ.get("RAY_USE_TLS", "0") != "0"):
            return None
        async with self._opening:
            if is_near not in self._servers:
                self._servers[is_near] = await self._listen(is_near)
        return Address(self._replica, self._servers[is_near][1], b"" if is_near else self._secret, calls)

    async def close(self) -> None:
        """Send new calls elsewhere, and finish those that are under way."""
        self._is_leaving = True
        if self._servers:
            await asyncio.sleep(LEAVING_S)
        await asyncio.gather(*(server.stop(CLOSE_S) for server, _ in self._servers.values()))
        self._servers.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _listen(self, is_near: bool) -> tuple[grpc.aio.Server, str]:
        server = grpc.aio.server(options=(*OPTIONS, *PINGS))
        handler = grpc.unary_unary_rpc_method_handler(self._answer_near if is_near else self._answer_far)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
        if is_near:
            self._directory = Path(tempfile.mkdtemp(prefix="tiltyard-"))  # nobody else may look into it
            target = f"unix:{self._directory / 'calls'}"
            server.add_insecure_port(target)
        else:
            host = f"[{self._host}]" if ":" in self._host else self._host
            target = f"{host}:{server.add_insecure_port(f'{host}:0')}"
        await server.start()
        return server, target

    async def _answer_near(self, body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer somebody who can open our socket."""
        return await self._answer(body, b"", context)

    async def _answer_far(self, sealed: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Answer somebody who was told the secret."""
        return await self._answer(sealed, self._secret, context)

    async def _answer(self, sealed: bytes, secret: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if self._is_leaving:
            return LEAVING
        outcome: Reply | TiltyardError
        try:
            outcome = await self._predict(*unseal(secret, sealed))
        except TiltyardError as error:
            outcome = error
        except WrongSeal:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "sealed with another secret")
        except Exception:
            logger.exception("a call could not be answered")
            outcome = TiltyardError(UNEXPECTED)
        return seal(secret, outcome)
