"""The wire between a caller and a replica: frames on a socket, each of a kind and of the call with that number.

gRPC would do it too, but at each end of it threads are woken for every message, on the cores that compute
(loadtests/RESULTS.md); here the event loop itself reads the socket.
"""

import asyncio
import socket
import struct
from abc import ABC, abstractmethod
from enum import IntEnum

HEAD = struct.Struct("!BII")
"""Kind, number of the call, bytes of the body that follows."""

SILENCE_S, PROBES = 5, 3
"""Linux asks another host that was silent for so long whether it is there, so many times; then its calls are lost."""


class Kind(IntEnum):
    """What a frame says."""

    CALL = 0
    CANCEL = 1
    """Nobody waits for the reply any more."""
    REPLY = 2
    LEAVING = 3
    """The replica takes no more calls, and has not begun this one."""
    REFUSED = 4
    """The call was sealed with another secret, and nobody looked into it."""


class Frames(asyncio.Protocol, ABC):
    """One end of a connection; a frame of more than `max_bytes` ends it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._head: tuple[int, int] | None = None
        self._wanted = HEAD.size

    @abstractmethod
    def received(self, kind: int, number: int, body: bytes) -> None:
        """A frame came."""

    @abstractmethod
    def lost(self) -> None:
        """Nothing comes any more, and nothing that is sent arrives."""

    @property
    def is_open(self) -> bool:
        """Whether what is sent may arrive."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, kind: Kind, number: int, body: bytes = b"") -> None:
        """Send a frame, unless the connection is lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines((HEAD.pack(kind, number, len(body)), body))

    def close(self) -> None:
        """End the connection once all that was sent has left."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = transport  # type: ignore[assignment]  # a stream's always writes

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._transport = None
        self.lost()

    def data_received(self, data: bytes) -> None:
        """Take bytes as they come, and what they complete."""
        self._buffer += data
        while len(self._buffer) >= self._wanted:
            part = bytes(memoryview(self._buffer)[: self._wanted])
            del self._buffer[: self._wanted]
            if self._head is None:
                kind, number, self._wanted = HEAD.unpack(part)
                self._head = kind, number
                if self._wanted > self._max_bytes:
                    self.close()
                    return
            else:
                (kind, number), self._head, self._wanted = self._head, None, HEAD.size
                self.received(kind, number, part)


def tcp_socket(host: str) -> socket.socket:
    """A socket, not connected yet, whose connections end when the other host does."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made
