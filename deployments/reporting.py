"""A Router's line to the referee: what it saw goes in, the shares that it may give come back."""

import asyncio
import logging

from deployments.referee import RefereeHandle
from deployments.router import Router
from models.errors import TiltyardError

logger = logging.getLogger("ray.serve")

PERIOD_S = 0.5
"""So Routers agree within a second."""

TIMEOUT_S = 5.0


class Reporting:
    """Reports now and then, and at once when there is a reason to. Without a referee the last shares stay."""

    def __init__(self, router: Router, referee: RefereeHandle) -> None:
        self._router = router
        self._referee = referee
        self._reason = asyncio.Event()
        self._is_heard = True

    def report_soon(self) -> None:
        """The policy has changed."""
        self._reason.set()

    async def run(self) -> None:
        """Report for ever."""
        while True:
            try:
                await self.report()
            except Exception:  # one bad report must not be the last
                logger.exception("the referee cannot be told")
            try:
                async with asyncio.timeout(PERIOD_S):
                    await self._reason.wait()
            except TimeoutError:
                pass
            self._reason.clear()

    async def report(self) -> None:
        """Report once, where there is anything to report."""
        report = self._router.report()
        if report is None:
            return
        try:
            async with asyncio.timeout(TIMEOUT_S):
                directive = await self._referee.report(report)
        except (TimeoutError, TiltyardError) as error:
            self._router.contest.scores.give_back(report.predictions)
            if self._is_heard:
                logger.warning("the referee does not answer (%s); the shares stay as they are", type(error).__name__)
            self._is_heard = False
            return
        self._is_heard = True
        self._router.obey(directive.shares, directive.configured)
