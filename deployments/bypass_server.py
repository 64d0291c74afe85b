"""The way past Ray Serve's handles, at the replica that is called: a socket of its own.

Ray Serve still decides who is called: only it tells where a replica listens, and the secret of that place.
"""

import asyncio
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve

from deployments.background import start
from deployments.frames import Frames, Kind, SocketAddress, tcp_socket
from deployments.messages import MAX_MESSAGE_BYTES, TOO_LARGE, Reply
from deployments.seal import WrongSeal, seal, unseal
from models.errors import UNEXPECTED, PayloadTooLarge, TiltyardError

logger = logging.getLogger("ray.serve")

GREETING_S, GREETING_BYTES = 5.0, 64
"""A caller from another node says first that it knows the secret; until then it is given no more time and memory."""

LEAVING_S = 0.5
CLOSE_S = 10.0
"""A replica that is put away says so for a while, then finishes what is under way."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica is called directly, and the secret that both ends seal what they send with.

    On a socket that nobody else can reach there is none.
    """

    replica: str
    target: SocketAddress
    secret: bytes


Answered = tuple[Kind, bytes]


class Caller(Frames):
    """The connection of one caller, and what is under way for it."""

    def __init__(
        self, answer: Callable[[bytes | bytearray], Awaitable[Answered]], secret: bytes, callers: "set[Caller]"
    ) -> None:
        super().__init__(GREETING_BYTES if secret else MAX_MESSAGE_BYTES)
        self._answer = answer
        self._secret = secret
        self._is_known = not secret
        self._callers = callers
        self._calls: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        super().connection_made(transport)
        self._callers.add(self)
        if not self._is_known:
            asyncio.get_running_loop().call_later(GREETING_S, self._refuse_stranger)

    def received(self, kind: int, number: int, body: bytes | bytearray) -> None:
        """Greet, begin a call, or give one up."""
        if not self._is_known:
            self._greet(kind, body)
        elif kind == Kind.CALL:
            task = start(self._reply(number, body), _RUNNING)
            self._calls[number] = task
            task.add_done_callback(lambda _: self._calls.pop(number, None))
        elif number in self._calls:
            self._calls[number].cancel()

    def lost(self) -> None:
        """Nobody waits any more."""
        self._callers.discard(self)
        for call in self._calls.values():
            call.cancel()

    async def finish(self) -> None:
        """End the connection once what is under way has been answered, or after a while."""
        await self.end_after(self._calls.values(), CLOSE_S)

    def _greet(self, kind: int, body: bytes | bytearray) -> None:
        with suppress(WrongSeal):
            if kind == Kind.GREETING:
                unseal(self._secret, body)
                self._is_known = True
                self.max_bytes = MAX_MESSAGE_BYTES
        self._refuse_stranger()

    def _refuse_stranger(self) -> None:
        if not self._is_known:
            self.abort()

    async def _reply(self, number: int, body: bytes | bytearray) -> None:
        try:
            kind, reply = await self._answer(body)
        except WrongSeal:
            self.abort()
        except BaseException:
            self.send(Kind.FAILED, number)
            raise
        else:
            self.send(kind, number, reply)


_RUNNING: set[asyncio.Task[None]] = set()


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
        self._servers: dict[bool, tuple[asyncio.Server, SocketAddress]] = {}
        self._callers: set[Caller] = set()
        self._directory: Path | None = None
        self._is_leaving = False

    @classmethod
    def of_replica(cls, predict: Callable[..., Awaitable[Reply]]) -> "BypassServer":
        """That of the replica of Ray Serve that this process is."""
        name = serve.get_replica_context().replica_id.unique_id
        return cls(predict, name, ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address())

    async def address(self, node: str) -> Address | None:
        """Where somebody on a node calls this; None where that is not offered."""
        is_near = node == self._node
        if self._is_leaving or (not is_near and os.environ.get("RAY_USE_TLS", "0") != "0"):
            return None
        async with self._opening:
            if is_near not in self._servers:
                self._servers[is_near] = await self._listen(is_near)
        return Address(self._replica, self._servers[is_near][1], b"" if is_near else self._secret)

    async def close(self) -> None:
        """Send new calls elsewhere, and finish those that are under way."""
        self._is_leaving = True
        if self._servers:
            await asyncio.sleep(LEAVING_S)
        for server, _ in self._servers.values():
            server.close()
        self._servers.clear()
        await asyncio.gather(*(caller.finish() for caller in self._callers))
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _listen(self, is_near: bool) -> tuple[asyncio.Server, SocketAddress]:
        loop = asyncio.get_running_loop()
        if is_near:
            self._directory = Path(tempfile.mkdtemp(prefix="tiltyard-"))  # nobody else may look into it
            path = str(self._directory / "calls")
            return await loop.create_unix_server(lambda: self._caller(b""), path), path
        listening = tcp_socket(self._host)
        listening.bind((self._host, 0))
        server = await loop.create_server(lambda: self._caller(self._secret), sock=listening)
        return server, (self._host, listening.getsockname()[1])

    def _caller(self, secret: bytes) -> Caller:
        return Caller(lambda sealed: self._answer(sealed, secret), secret, self._callers)

    async def _answer(self, sealed: bytes | bytearray, secret: bytes) -> Answered:
        """Answer a call. Raises WrongSeal."""
        if self._is_leaving:
            return Kind.LEAVING, b""
        try:
            reply = seal(secret, await self._predict(*unseal(secret, sealed)))
        except TiltyardError as error:
            reply = seal(secret, error)
        except WrongSeal:
            raise
        except Exception:
            logger.exception("a call could not be answered")
            reply = seal(secret, TiltyardError(UNEXPECTED))
        return Kind.REPLY, reply if len(reply) <= MAX_MESSAGE_BYTES else seal(secret, PayloadTooLarge(TOO_LARGE))
