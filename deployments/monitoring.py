"""Looks for drift when it is time to: every so often, one run of a model at a time, made up for after a restart."""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

from deployments.drift_diary import DriftDiary
from deployments.drift_task import DriftRun, Outcome
from models.drift_history import prune, run_directory
from models.drift_notice import DriftNotice
from models.monitoring import MonitoringSettings, Schedule, drift_directory

logger = logging.getLogger("ray.serve")

RETRY_S = 60.0
"""After a run that failed; twice as long after each further one, and never longer than the period."""

JITTER = 0.1
"""Of the period, at most MAX_JITTER_S: so that the models of a machine do not all begin at once."""

MAX_JITTER_S = 60.0
POLL_S = 30.0
"""A machine that slept is late by no more than that."""


class Surroundings(Protocol):
    """What the schedule needs of the world; with Ray behind it in the service."""

    async def versions(self, model: str) -> list[int]:
        """Versions of a model that run."""

    async def run(self, run: DriftRun) -> Outcome:
        """Look once."""

    async def tell(self, notices: Sequence[DriftNotice]) -> None:
        """Tell the referee of all versions of a model."""

    def measured(self, run: DriftRun, outcome: Outcome) -> None:
        """Show it as metrics."""


class Monitoring:
    """The schedules of all models."""

    def __init__(self, settings: MonitoringSettings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._surroundings = surroundings
        self._began = datetime.now(UTC)
        self._alone: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._skipped: set[tuple[str, int]] = set()
        models = {schedule.model for schedule in settings.schedules}
        self._diaries = {model: DriftDiary(drift_directory(settings.traffic, model)) for model in models}

    async def watch(self) -> None:
        """Go on for ever."""
        await asyncio.gather(*(self._watch(schedule) for schedule in self._settings.schedules))

    async def _watch(self, schedule: Schedule) -> None:
        while True:
            jitter = random.uniform(0, min(MAX_JITTER_S, JITTER * schedule.every.total_seconds()))
            latest = time.monotonic() + schedule.every.total_seconds() + jitter  # the clock may be set back meanwhile
            while (left := min(self.wait_s(schedule) + jitter, latest - time.monotonic())) > 0:
                await asyncio.sleep(min(left, POLL_S))
            try:
                await self.look(schedule)
            except Exception:  # one bad look must not be the last
                logger.exception("drift of %s could not be looked for", schedule.model)
                await asyncio.sleep(min(RETRY_S, schedule.every.total_seconds()))

    def wait_s(self, schedule: Schedule) -> float:
        """Seconds until the next run is due: none for one that was missed, however many were."""
        entry = self._diaries[schedule.model].entry(schedule)
        if entry is None:
            return (self._began - datetime.now(UTC)).total_seconds()
        due = (entry.whole or entry.started) + schedule.every
        if entry.failures:
            due = min(due, entry.started + timedelta(seconds=RETRY_S * 2 ** min(entry.failures - 1, 20)))
        left = (due - datetime.now(UTC)).total_seconds()
        return min(left, schedule.every.total_seconds())  # the clock may have been set back

    async def look(self, schedule: Schedule) -> list[Outcome]:
        """Look at each version once, one after the other; soon after a failure only at those without a report."""
        async with self._alone[schedule.model]:
            diary = self._diaries[schedule.model]
            left = diary.begin(schedule, datetime.now(UTC))
            versions = [each for each in await self._versions(schedule) if left is None or each in left]
            outcomes: list[Outcome] = []
            failed: list[int] = []
            for done, version in enumerate(versions, 1):
                outcomes.append(await self._run(schedule, version))
                failed += [version] if outcomes[-1].has_failed else []
                diary.left(schedule, [*failed, *versions[done:]])
            if not failed:
                diary.end(schedule)
            notices = [outcome.notice for outcome in outcomes if outcome.notice is not None]
            if notices:
                await self._surroundings.tell(notices)
            with suppress(OSError):
                prune(self._settings.traffic, schedule.model)
            return outcomes

    async def _versions(self, schedule: Schedule) -> list[int]:
        if schedule.version is not None:
            return [schedule.version]
        found = await self._surroundings.versions(schedule.model)
        if not found:
            logger.warning("no version of %s runs: there is no drift to look for", schedule.model)
        return found

    async def _run(self, schedule: Schedule, version: int) -> Outcome:
        directory = run_directory(self._settings.traffic, schedule.model, version, datetime.now(UTC))
        run = DriftRun(schedule.model, version, schedule.reach, directory)
        outcome = await self._surroundings.run(run)
        if outcome.error is not None:
            logger.error("drift of %s version %d: %s", run.model, run.version, outcome.error)
        self._log_once(run, outcome.skipped)
        self._surroundings.measured(run, outcome)
        return outcome

    def _log_once(self, run: DriftRun, skipped: str | None) -> None:
        key = (run.model, run.version)
        if skipped is None:
            self._skipped.discard(key)
        elif key not in self._skipped:
            self._skipped.add(key)
            logger.warning("drift of %s version %d is not looked for: %s", run.model, run.version, skipped)
