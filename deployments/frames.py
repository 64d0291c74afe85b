"""The wire between a caller and a replica: frames on a socket, each of a kind and of the call with that number.

gRPC would do it too, but at each end of it threads are woken for every message, on the cores that compute
(loadtests/RESULTS.md); here the event loop itself reads the socket.
"""

import asyncio
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import suppress
from enum import IntEnum
from typing import Any

HEAD = struct.Struct("!BII")
"""Kind, number of the call, bytes of the body that follows."""

SocketAddress = str | tuple[str, int]
"""The path of a socket, or a host and port."""

SILENCE_S, PROBES = 5, 3
"""Linux asks another host that was silent for so long whether it is there, so many times; then its calls are lost."""

STUCK_S = 5.0
"""An end that has not read for so long what was sent to it will not read."""

FLUSH_S = 10.0


class Kind(IntEnum):
    """What a frame says."""

    GREETING = 0
    """Who calls from another node knows the secret."""
    CALL = 1
    CANCEL = 2
    """Nobody waits for the reply any more."""
    REPLY = 3
    LEAVING = 4
    """The replica takes no more calls, and has not begun this one."""
    FAILED = 5
    """The call ended, and there is no reply."""


class Frames(asyncio.Protocol, ABC):
    """One end of a connection; a frame of more than `max_bytes` ends it."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._transport: asyncio.WriteTransport | None = None
        self._ended = asyncio.Event()
        self._full_since: float | None = None
        self._buffer = bytearray()
        self._head: tuple[int, int] | None = None
        self._wanted = HEAD.size

    @abstractmethod
    def received(self, kind: int, number: int, body: bytes | bytearray) -> None:
        """A frame came."""

    @abstractmethod
    def lost(self) -> None:
        """Nothing comes any more, and nothing that is sent arrives."""

    @property
    def is_open(self) -> bool:
        """Whether what is sent may arrive."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_stuck(self) -> bool:
        """Whether the other end reads nothing, so that what is sent piles up here."""
        return self._full_since is not None and time.monotonic() - self._full_since > STUCK_S

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Send a frame, unless the connection is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((HEAD.pack(kind, number, len(body)), body))

    def close(self) -> None:
        """End the connection once all that was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def end_after(self, under_way: Collection[asyncio.Future[Any]], timeout_s: float) -> None:
        """End the connection once this has ended, or had its time, and what was sent has left, or a while is over."""
        if under_way:
            await asyncio.wait(under_way, timeout=timeout_s)
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._ended.wait()
        self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = transport  # type: ignore[assignment]  # a stream's always writes

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._transport = None
        self._ended.set()
        self.lost()

    def pause_writing(self) -> None:
        """More waits to be sent than the other end takes at once."""
        self._full_since = time.monotonic()

    def resume_writing(self) -> None:
        """The other end has taken most of it."""
        self._full_since = None

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come, and what they complete."""
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            part = self._next_part()
            if self._head is None:
                kind, number, self._wanted = HEAD.unpack(part)
                self._head = kind, number
                if self._wanted > self.max_bytes:
                    self.abort()
                    return
            else:
                (kind, number), self._head, self._wanted = self._head, None, HEAD.size
                self.received(kind, number, part)

    def _next_part(self) -> bytes | bytearray:
        """The bytes that are wanted, without a copy where no more have come: a large body comes last."""
        if len(self._buffer) == self._wanted:
            part, self._buffer = self._buffer, bytearray()
            return part
        first = bytes(memoryview(self._buffer)[: self._wanted])
        del self._buffer[: self._wanted]
        return first


def tcp_socket(host: str) -> socket.socket:
    """A socket, not connected yet, whose connections end when the other host does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio's never delay what is known as TCP
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # nobody is asked while something that was sent is not acknowledged
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (1 + PROBES) * SILENCE_S * 1000)
    return made
