"""The way past Ray Serve's handles, at whoever calls.

A call through a handle takes 1.4 to 2.0 ms of CPU at both ends, the same call over a socket 0.1 to 0.3
(loadtests/RESULTS.md). What a handle does for each call is done here now and then: for every call that is under way, on
average, one stream to a replica is kept open through the handle. So Ray Serve chooses the replica, with new ones first,
and counts it busy, which is what it scales and drains by; and the replica says where it is called directly.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from deployments.background import start
from deployments.bypass_server import Address
from deployments.channel import Channel, Gone, Left
from deployments.seal import WrongSeal, seal, unseal
from models.errors import TiltyardError

logger = logging.getLogger("ray.serve")

VARIABLE = "TILTYARD_BYPASS"
"""Calls pass handles where this is 1, as `make serve` sets it, and Ray Serve runs our code on its own event loop."""

PERIOD_S = 2.0
"""How often Ray Serve hears of the load, and for how long each stream stays open."""

INTRODUCTION_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
REFUSED_S = 60.0
"""Where a replica offers no way past the handle, or one that leads nowhere, nobody asks again for so long."""

FULL = 2
"""A replica works on one call and takes the next; where others are out of reach, they get what is more."""

FORGOTTEN_S = 30.0
"""A replica that was neither introduced nor answered for so long is forgotten."""

Introduce = Callable[[float], AsyncIterator[Address | None]]
"""Ask Ray Serve for a replica, and keep it busy for some seconds: a stream of its address alone."""


def is_wanted() -> bool:
    """Whether calls pass handles at all."""
    return os.environ.get(VARIABLE) == "1" and os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") == "1"


class Replica:
    """A replica that was introduced, and the channel to it."""

    def __init__(self, address: Address, channel: Channel) -> None:
        self.address = address
        self.in_flight = 0
        self.seen_at = time.monotonic()
        self.channel = channel

    async def call(self, arguments: tuple[Any, ...]) -> Any:
        """Have it answer. Raises a TiltyardError; Left or Gone where it does not answer."""
        secret = self.address.secret
        try:
            outcome = unseal(secret, await self.channel.call(seal(secret, arguments)))
        except WrongSeal:  # somebody else answered
            raise Gone from None
        self.seen_at = time.monotonic()
        if isinstance(outcome, TiltyardError):
            raise outcome
        return outcome


class Load:
    """How many calls are under way, and how many were on average since it was last asked."""

    def __init__(self) -> None:
        self.calls = 0
        self._began = self._changed = time.monotonic()
        self._call_seconds = 0.0

    def add(self, calls: int) -> None:
        """So many more, or fewer, are under way from now on."""
        now = time.monotonic()
        self._call_seconds += self.calls * (now - self._changed)
        self._changed = now
        self.calls += calls

    def mean(self) -> float:
        """The average since this was asked last."""
        self.add(0)
        mean = self._call_seconds / max(self._changed - self._began, 1e-9)
        self._began, self._call_seconds = self._changed, 0.0
        return mean


class Bypass:
    """Calls the replicas of one deployment directly, whichever of them has the fewest calls.

    It sets no limit: lanes bound the calls under way. Where some replicas are out of reach, what is too much for the
    others goes to them through the handle.
    """

    def __init__(self, introduce: Introduce, period_s: float = PERIOD_S) -> None:
        self._introduce = introduce
        self._period_s = period_s
        self._replicas: dict[str, Replica] = {}
        self._load = Load()
        self._owed = 0.0
        self._refused_until = float("-inf")
        self._asking: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()

    async def call(self, arguments: tuple[Any, ...], through_handle: Callable[[], Awaitable[Any]]) -> Any:
        """Have the least busy replica answer; through the handle where none is known that it should be.

        Raises a TiltyardError, Gone, or whatever Ray Serve raises.
        """
        while (replica := self._least_busy()) is not None:
            replica.in_flight += 1
            self._load.add(1)
            try:
                return await replica.call(arguments)
            except Left:  # it has not begun, so this counts for no attempt
                self._forget(replica)
            except Gone:
                self._forget(replica)
                raise
            finally:
                replica.in_flight -= 1
                self._load.add(-1)
        if not self._asking and time.monotonic() >= self._refused_until:
            self._ask()
        return await through_handle()

    def prepare(self) -> None:
        """Get to know a replica before the first call, where none is known."""
        if not self._replicas and not self._asking:
            self._ask()

    def _least_busy(self) -> Replica | None:
        least = min(self._replicas.values(), key=lambda each: (each.in_flight, random.random()), default=None)
        is_full = least is not None and least.in_flight >= FULL
        return None if is_full and time.monotonic() < self._refused_until else least

    def _ask(self) -> None:
        start(self._be_introduced(), self._asking)

    async def _be_introduced(self) -> None:
        """Get to know a replica, and keep it busy in Ray Serve's eyes as long as the stream lasts."""
        try:
            async with asyncio.timeout(INTRODUCTION_TIMEOUT_S + self._period_s):
                stream = self._introduce(self._period_s)
                address = await anext(stream)
                if address is None or not await self._is_known(address):
                    self._refused_until = time.monotonic() + REFUSED_S
                async for _ in stream:
                    pass
        except Exception as error:  # whoever calls goes through the handle, and is told by that what is wrong
            logger.debug("no replica introduces itself: %s", type(error).__name__)

    async def _is_known(self, address: Address) -> bool:
        """Whether a replica can be reached; from then on it is called."""
        if not self._is_connected(address):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    channel = await Channel.open(address.target, address.secret)
            except OSError:  # TimeoutError is one
                return False
            if self._is_connected(address):  # introduced twice at once
                channel.close()
            else:
                self._replicas[address.replica] = Replica(address, channel)
        self._replicas[address.replica].seen_at = time.monotonic()
        if not self._telling:
            start(self._tell(), self._telling)
        return True

    def _is_connected(self, address: Address) -> bool:
        known = self._replicas.get(address.replica)
        return known is not None and known.channel.is_open

    def _forget(self, replica: Replica) -> None:
        if self._replicas.get(replica.address.replica) is replica:
            del self._replicas[replica.address.replica]
            start(replica.channel.finish(), self._closing)

    async def _tell(self) -> None:
        """Have Ray Serve count the calls that it does not see; ends when nobody is known any more."""
        self._load.mean()  # of what was before
        while self._replicas or self._load.calls:
            await asyncio.sleep(self._period_s)
            self._owed += self._load.mean()
            while self._owed >= 1:
                self._owed -= 1
                self._ask()
            old = time.monotonic() - FORGOTTEN_S
            for replica in [each for each in self._replicas.values() if each.seen_at < old and not each.in_flight]:
                self._forget(replica)
