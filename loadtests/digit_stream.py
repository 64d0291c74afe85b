"""Digits sent at a fixed rate to a running service, each a little different, with the truth sent after them."""

import gc
import http.client
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from loadtests.open_loop import percentile

PAUSE_S = 0.01
"""How long it may take until requests become due again after a pause."""


@dataclass(frozen=True, slots=True)
class Digit:
    """A PNG file and its class."""

    file: bytes
    label: str


@dataclass(frozen=True, slots=True)
class Reply:
    """When it was due (time.monotonic), the status (0: the connection broke), and who answered after how long."""

    due: float
    status: int
    milliseconds: float
    version: int | None = None
    user: str | None = None
    request_id: str | None = None


@dataclass(slots=True)
class Stream:
    """Requests at a fixed rate: each latency counts from the moment its request was due."""

    address: str
    digits: Sequence[Digit]
    rate: float
    users: int = 0
    """Where it is not 0, requests carry `x-user`, one of so many."""
    gives_feedback: bool = False
    clients: int = 24
    drains: bool = True
    """Whether what was due by the end is still sent."""
    replies: list[Reply] = field(default_factory=list)
    _is_paused: bool = field(default=False, init=False)

    def failures(self) -> list[Reply]:
        """Replies that are not 200."""
        return [reply for reply in self.replies if reply.status != 200]

    def p99_ms(self, since: float = 0.0, until: float = float("inf")) -> float:
        """Of what was due in a span of time."""
        return percentile([reply.milliseconds for reply in self.replies if since <= reply.due < until], 99)

    def answered_by(self, version: int) -> int:
        """Number of good answers of a version."""
        return sum(reply.version == version for reply in self.replies)

    @contextmanager
    def flowing(self) -> Iterator["Stream"]:
        """Send until the block ends, and wait for what is still out.

        No garbage is collected meanwhile: that would stop all clients at once, the longer the more replies there are.
        """
        queue: deque[tuple[int, float]] = deque()
        there_is_work, is_over = threading.Semaphore(0), threading.Event()
        clients = [threading.Thread(target=self._client, args=(queue, there_is_work)) for _ in range(self.clients)]
        pace = threading.Thread(target=self._pace, args=(queue, there_is_work, is_over))
        collects_garbage = gc.isenabled()
        gc.disable()
        for thread in (*clients, pace):
            thread.start()
        try:
            yield self
        finally:
            is_over.set()
            pace.join()
            if not self.drains:
                queue.clear()
            queue.extend([(-1, 0.0)] * self.clients)
            there_is_work.release(self.clients)
            for thread in clients:
                thread.join()
            if collects_garbage:
                gc.enable()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let nothing become due until the block ends."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def _pace(self, queue: deque[tuple[int, float]], work: threading.Semaphore, is_over: threading.Event) -> None:
        due = time.monotonic()
        for number in itertools.count():
            if is_over.wait(max(0.0, due - time.monotonic())):
                return
            while self._is_paused:
                if is_over.wait(PAUSE_S):
                    return
                due = time.monotonic()
            queue.append((number, due))
            work.release()
            due += 1 / self.rate

    def _client(self, queue: deque[tuple[int, float]], work: threading.Semaphore) -> None:
        address = urlsplit(self.address).netloc
        connection = http.client.HTTPConnection(address, timeout=60)
        while True:
            work.acquire()
            number, due = queue.popleft() if queue else (-1, 0.0)
            if number < 0:
                connection.close()
                return
            try:
                self.replies.append(self._send(connection, number, due))
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = http.client.HTTPConnection(address, timeout=60)
                self.replies.append(Reply(due, 0, (time.monotonic() - due) * 1000))

    def _send(self, connection: http.client.HTTPConnection, number: int, due: float) -> Reply:
        digit = self.digits[number % len(self.digits)]
        user = f"user-{number % self.users}" if self.users else None
        headers = {"content-type": "image/png", **({"x-user": user} if user else {})}
        connection.request("POST", "/predict", digit.file, headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        milliseconds = (time.monotonic() - due) * 1000
        if response.status == 200 and self.gives_feedback:
            feedback = json.dumps({"feedback": [{"request_id": body["request_id"], "label": digit.label}]})
            connection.request("POST", "/feedback", feedback, {"content-type": "application/json"})
            connection.getresponse().read()
        return Reply(due, response.status, milliseconds, body.get("model_version"), user, body.get("request_id"))
