"""A few clients that send one request over and over, and what came of it."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

STARTUP_TIMEOUT_S = 180.0
"""Longer than any start was seen to take, so that a run which waits for one ends by itself."""


@dataclass
class Traffic:
    """Status and seconds of each request; a connection that breaks counts as status 0."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def post(url: str, body: bytes, media_type: str = "image/png", timeout_s: float = 60) -> tuple[int, Any]:
    """POST and read JSON, whatever the status. Raises OSError where nobody answers."""
    request = urllib.request.Request(url, body, {"content-type": media_type})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def seconds_until_answered(url: str, body: bytes, timeout_s: float = 60) -> float:
    """Ask until the answer is 200; how long that took. Raises TimeoutError."""
    started = time.monotonic()
    while time.monotonic() - started < timeout_s:
        with suppress(OSError, ValueError):
            if post(url, body)[0] == 200:
                return time.monotonic() - started
        time.sleep(0.05)
    raise TimeoutError(f"no answer from {url} within {timeout_s:g} s")


@contextmanager
def traffic(url: str, body: bytes, clients: int = 4, media_type: str = "image/png") -> Iterator[Traffic]:
    """Send requests from some clients until the block ends."""
    result, stop = Traffic(), threading.Event()

    def send() -> None:
        while not stop.is_set():
            started = time.monotonic()
            try:
                status = post(url, body, media_type)[0]
            except (OSError, ValueError):
                status = 0
            result.statuses.append(status)
            result.seconds.append(time.monotonic() - started)
            stop.wait(0.01)

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()
