"""Who answers where the file names no champion: the newest of the versions that run, as long as they do."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from models.policy import DeclaredRouting, RoutingPolicy, versions_of

logger = logging.getLogger("ray.serve")

PERIOD_S = 1.0

RUNNING = "RUNNING"
GONE = ("NOT_STARTED", "DELETING")


class Resolution:
    """Tells a Router whom to obey: what is declared, and where that leaves the champion open, what runs.

    A version joins when its application runs, loaded and warm, and leaves when that is deleted; one that fails in
    between stays, because a replica that is replaced is no reason to change the champion.
    """

    def __init__(self, obey: Callable[[RoutingPolicy], None], applications: Callable[[], Mapping[str, str]]) -> None:
        self._obey = obey
        self._applications = applications
        self._declared = DeclaredRouting()
        self._resolved = RoutingPolicy()

    def declare(self, declared: DeclaredRouting) -> None:
        """Obey another user_config: at once where it names champions, else with the versions that answered so far."""
        self._declared = declared
        self._resolved = declared.resolved({name: entry.versions for name, entry in self._resolved.models.items()})
        self._obey(self._resolved)

    async def run(self) -> None:
        """Follow what runs, for ever."""
        while True:
            if self._declared.open_models:
                try:
                    await self.look()
                except Exception:  # one bad look must not be the last; until the next one all stays as it is
                    logger.exception("what runs cannot be seen")
            await asyncio.sleep(PERIOD_S)

    async def look(self) -> None:
        """Look once at what runs, and obey what follows from it."""
        status = await asyncio.to_thread(self._applications)
        if not status:  # no controller answers; what answers does so without it
            return
        here = versions_of([name for name, each in status.items() if each not in GONE])
        loaded = versions_of([name for name, each in status.items() if each == RUNNING])
        live = {}
        for name, versions in here.items():
            before = self._resolved.models.get(name)
            live[name] = loaded.get(name, set()) | (versions & set(before.versions if before is not None else ()))
        resolved = self._declared.resolved(live)
        if resolved != self._resolved:
            self._resolved = resolved
            self._obey(resolved)
