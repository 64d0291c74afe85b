"""Who answers where the file names no champion: the newest of the versions that run, as long as they do."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from models.policy import DeclaredRouting, RoutingPolicy, versions_of

logger = logging.getLogger("ray.serve")

PERIOD_S = 1.0

FIRST_LOOK_S = 5.0
"""A replica takes no requests until it is configured, but not for ever."""

LOADED = ("RUNNING", "UNHEALTHY")
"""Ray Serve calls an application unhealthy that ran before; what fails while it is loaded is DEPLOY_FAILED."""

DEPLOYING = "DEPLOYING"
GONE = ("NOT_STARTED", "DELETING")


class Resolution:
    """Tells a Router whom to obey: what is declared, and where that leaves the champion open, what runs.

    A version joins when its application runs, loaded and warm, and leaves when that is deleted; one that fails in
    between stays, because a replica that is replaced is no reason to change the champion. At the first look one that
    deploys stands in where nothing else of its model is there, until one is loaded: it may have run before and only be
    set up anew, and whoever has just started cannot know.
    """

    def __init__(self, obey: Callable[[RoutingPolicy], None], applications: Callable[[], Mapping[str, str]]) -> None:
        self._obey = obey
        self._applications = applications
        self._declared = DeclaredRouting()
        self._resolved = RoutingPolicy()
        self._stand_ins: set[str] = set()
        """Models of which only versions that deploy were there from the first look on."""
        self._has_looked = False

    def declare(self, declared: DeclaredRouting) -> None:
        """Obey another user_config: at once where it names champions, else with the versions that answered so far."""
        self._declared = declared
        self._stand_ins &= set(declared.open_models)
        self._resolved = declared.resolved({name: entry.versions for name, entry in self._resolved.models.items()})
        self._obey(self._resolved)

    async def start(self) -> None:
        """Look before the first request comes, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._follow()

    async def run(self) -> None:
        """Follow what runs, for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self._follow()

    async def _follow(self) -> None:
        if self._declared.open_models:
            try:
                await self.look()
            except Exception:  # one bad look must not be the last; until the next one all stays as it is
                logger.exception("what runs cannot be seen")

    async def look(self) -> None:
        """Look once at what runs, and obey what follows from it."""
        status = await asyncio.to_thread(self._applications)
        if not status:  # no controller answers; what answers does so without it
            return
        here = versions_of([name for name, each in status.items() if each not in GONE])
        loaded = versions_of([name for name, each in status.items() if each in LOADED])
        deploying = versions_of([name for name, each in status.items() if each == DEPLOYING])
        live = {}
        for name, versions in here.items():
            before = self._resolved.models.get(name) if name not in self._stand_ins else None
            live[name] = loaded.get(name, set()) | (versions & set(before.versions if before is not None else ()))
        may_stand_in = self._stand_ins if self._has_looked else set(deploying)
        self._stand_ins = {name for name in may_stand_in & set(deploying) if not live[name]}
        self._has_looked = True
        live |= {name: deploying[name] for name in self._stand_ins}
        resolved = self._declared.resolved(live)
        if resolved != self._resolved:
            self._resolved = resolved
            self._obey(resolved)
