"""Who can answer: versions that did so a moment ago, or say so when asked; challengers are met before requests come."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from deployments.lane import Lane, Preprocessors
from deployments.question import Key
from models.errors import ModelUnavailable, Overloaded, TiltyardError

logger = logging.getLogger("ray.serve")

TIMEOUT_S = 2.0
"""How long a version may take to say that it is there."""

FRESH_S = 2.0
"""Whoever answered anything so recently is ready; it is not asked again."""

PREPROCESSOR = "preprocessor"
"""Who decodes, as one of those that answer."""


class Readiness:
    """Knows who answered when, asks the others, and gets to know those that nobody has asked yet."""

    def __init__(self, lane: Callable[[Key], Lane], preprocessors: Preprocessors) -> None:
        self._lane = lane
        self._preprocessors = preprocessors
        self._answered_at: dict[Key | str, float] = {}
        self._met: set[Key] = set()
        self._meeting: dict[Key, asyncio.Task[None]] = {}

    def note(self, *who: Key | str) -> None:
        """These versions have just answered, or the Preprocessor."""
        for each in who:
            self._answered_at[each] = time.monotonic()

    def forget(self, live: Collection[Key]) -> None:
        """Forget all but those."""
        self._answered_at = {who: at for who, at in self._answered_at.items() if who in live or who == PREPROCESSOR}
        self._met &= set(live)
        for key in self._meeting.keys() - live:
            self._meeting.pop(key).cancel()

    async def is_ready(self, key: Key) -> bool:
        """Whether the version answers, and for images the Preprocessor before it too."""
        lane = self._lane(key)
        if not await self._answers(key, lane.describe):
            return False
        if lane.known is None or lane.decodes or lane.known.preprocessing is None:
            return True
        return await self._answers(PREPROCESSOR, self._preprocessors.describe)

    def is_meeting(self, key: Key) -> bool:
        """Whether a version is just being met."""
        return key in self._meeting

    def meet(self, live: Iterable[Key]) -> None:
        """Begin to get to know those that are new, and the way to them: it takes a tenth of a second.

        Who cannot be met is not waited for, but asked with the first request.
        """
        for key in live:
            if key not in self._met and key not in self._meeting:
                self._meeting[key] = asyncio.get_running_loop().create_task(self._meet(key, self._lane(key)))

    async def _meet(self, key: Key, lane: Lane) -> None:
        try:
            with suppress(TimeoutError, TiltyardError):
                async with asyncio.timeout(TIMEOUT_S):
                    await lane.meet()
                    self._met.add(key)
        finally:
            if self._meeting.get(key) is asyncio.current_task():
                del self._meeting[key]

    async def _answers(self, who: Key | str, ask: Callable[[], Awaitable[object]]) -> bool:
        """Whether somebody answered a moment ago, or does so now."""
        if time.monotonic() - self._answered_at.get(who, float("-inf")) < FRESH_S:
            return True
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await ask()
        except (TimeoutError, ModelUnavailable, Overloaded):
            return False
        except TiltyardError as error:
            logger.warning("%s does not say that it is there: %s", who, error)
            return False
        self.note(who)
        return True
