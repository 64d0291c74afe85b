"""Kept HTTP/1.1 connections to one server on one epoll, for the open loop."""

import select
import socket
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from loadtests.exact_timer import ExactTimer

MAX_CONNECTIONS = 2000
UNANSWERED = 0
"""Stands for the status of a request whose connection broke, or that was not answered before time was up."""


def http_request(url: str, headers: Sequence[str], body: bytes) -> bytes:
    """One POST."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def status_if_complete(data: bytes) -> int | None:
    """The status of an answer once all of it is there, else None."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        complete = body.endswith(b"0\r\n\r\n")
    else:
        _, _, length = fields.partition(b"content-length:")
        complete = len(body) >= int(length.split(b"\r\n", 1)[0] or 0)
    return int(head[9:12]) if complete else None


def will_close(data: bytes) -> bool:
    """Whether the server closes the connection behind this answer."""
    head = data.partition(b"\r\n\r\n")[0].lower()
    return head.startswith(b"http/1.0") or b"\r\nconnection: close" in head


@dataclass(eq=False)
class Connection:
    """One socket, and when the request that is on it was due (None: it is free)."""

    socket: socket.socket
    due: float | None = None
    to_send: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytearray = field(default_factory=bytearray)
    events: int = select.EPOLLIN


class Connections:
    """Sends one request over and over, each with the time it was due, and records latency by status."""

    def __init__(self, url: str, request: bytes) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._request = request
        self._epoll = select.epoll()
        self._timer = ExactTimer(self._epoll)
        self._open: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._waiting: deque[float] = deque()
        self.latencies_ms: dict[int, list[float]] = defaultdict(list)
        self.late_ms: list[float] = []

    @property
    def busy(self) -> bool:
        """Whether a request is not answered yet."""
        return bool(self._waiting) or any(connection.due is not None for connection in self._open.values())

    def send(self, due: float) -> None:
        """Send on a free connection or a new one; with too many of them, the request waits while its clock runs."""
        if self._free:
            connection = self._free.pop()
        elif len(self._open) < MAX_CONNECTIONS:
            connection = self._connect()
        else:
            self._waiting.append(due)
            return
        self.late_ms.append((time.perf_counter() - due) * 1000)
        connection.due, connection.to_send = due, memoryview(self._request)
        connection.received.clear()
        self._write(connection)

    def poll_for(self, seconds: float) -> None:
        """Read and write what can be read and written; return when something was, or time is up."""
        self._timer.wake_in(seconds)
        for number, events in self._epoll.poll(seconds + 1):
            connection = self._open.get(number)
            if connection is None:
                self._timer.clear()
            elif events & select.EPOLLIN:
                self._read(connection)
            elif events & (select.EPOLLERR | select.EPOLLHUP):
                self._drop(connection)
            else:
                self._write(connection)

    def close(self) -> None:
        """Close every connection; what is still out stays unanswered."""
        for due in self._waiting:
            self._record(UNANSWERED, due)
        self._waiting.clear()
        for connection in list(self._open.values()):
            self._drop(connection)
        self._timer.close()
        self._epoll.close()

    def _connect(self) -> Connection:
        connection = Connection(socket.socket())
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.socket.connect_ex(self._address)
        self._open[connection.socket.fileno()] = connection
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _write(self, connection: Connection) -> None:
        with suppress(OSError):  # full, or not connected yet, or gone: epoll says which
            connection.to_send = connection.to_send[connection.socket.send(connection.to_send) :]
        events = select.EPOLLIN | (select.EPOLLOUT if connection.to_send else 0)
        if events != connection.events:
            connection.events = events
            self._epoll.modify(connection.socket.fileno(), events)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or connection.due is None:
            self._drop(connection)
            return
        connection.received += data
        status = status_if_complete(bytes(connection.received))
        if status is None:
            return
        self._record(status, connection.due)
        connection.due = None
        if will_close(bytes(connection.received[:1024])):
            self._drop(connection)
        else:
            self._free.append(connection)
        if self._waiting:
            self.send(self._waiting.popleft())

    def _drop(self, connection: Connection) -> None:
        if connection.due is not None:
            self._record(UNANSWERED, connection.due)
        elif connection in self._free:
            self._free.remove(connection)
        self._open.pop(connection.socket.fileno(), None)
        connection.socket.close()

    def _record(self, status: int, due: float) -> None:
        self.latencies_ms[status].append((time.perf_counter() - due) * 1000)
