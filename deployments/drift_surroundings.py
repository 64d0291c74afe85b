"""What the schedule of drift runs needs of Ray: versions that run, tasks, the referee, metrics."""

import asyncio
import logging
import re
from collections.abc import Sequence

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.util.metrics import Counter, Gauge

from deployments.drift_task import DriftRun, Outcome, run_drift
from deployments.handles import call, plain
from models.drift_notice import DriftNotice
from models.drift_report import Severity
from models.errors import TiltyardError
from models.monitoring import MonitoringSettings

logger = logging.getLogger("ray.serve")

QUEUE_S = 600.0
"""A run may wait so long for its CPU."""

SEVERITIES: dict[Severity, int] = {"unknown": -1, "ok": 0, "warning": 1, "critical": 2}
"""What the gauge says."""


class RaySurroundings:
    """The cluster that the service runs on."""

    def __init__(self, settings: MonitoringSettings) -> None:
        self._settings = settings
        self._task = ray.remote(num_cpus=settings.num_cpus, max_retries=0)(run_drift)
        self._severity = Gauge(
            "tiltyard_drift_severity",
            "Of the newest drift report: -1 not known, 0 ok, 1 warning, 2 critical.",
            ("model", "version", "tier"),
        )
        self._last_run = Gauge(
            "tiltyard_drift_last_run_timestamp", "When the newest drift report was made.", ("model", "version")
        )
        self._failures = Counter(
            "tiltyard_drift_failures_total",
            "Drift runs that failed, or that somebody was not told of.",
            ("model", "version"),
        )

    async def versions(self, model: str) -> list[int]:
        """Versions of a model that run: each is an application of its own."""
        status = await asyncio.to_thread(serve.status)
        name = re.compile(re.escape(model) + r"-v(\d+)")
        found = [match for match in map(name.fullmatch, status.applications) if match]
        return sorted(int(match[1]) for match in found if status.applications[match[0]].status == "RUNNING")

    async def run(self, run: DriftRun) -> Outcome:
        """Run it as a task; what becomes of that is in the outcome."""
        limit_s = QUEUE_S + self._settings.timeout_s
        limit_s += self._settings.on_critical.timeout_s if self._settings.on_critical else 0
        task = self._task.remote(run, self._settings)
        try:
            async with asyncio.timeout(limit_s):
                outcome: Outcome = await task
                return outcome
        except TimeoutError:
            ray.cancel(task, force=True)
            return Outcome(None, f"there was no CPU for it, or it did not end, within {limit_s:g} s")
        except RayError as error:
            return Outcome(None, f"its task failed: {type(error).__name__}")

    async def tell(self, notices: Sequence[DriftNotice]) -> None:
        """Tell the referee; without one, nobody is stopped for drift."""
        try:
            handle = await asyncio.to_thread(serve.get_deployment_handle, "Referee", "gateway")
            await call(lambda: plain(handle).drift.remote(list(notices)))
        except (RayServeException, TiltyardError) as error:
            logger.error("the referee could not be told of drift: %s", type(error).__name__)

    def measured(self, run: DriftRun, outcome: Outcome) -> None:
        """Set the gauges."""
        version = {"model": run.model, "version": str(run.version)}
        if outcome.error is not None:
            self._failures.inc(tags=version)
        if outcome.notice is None:
            return
        self._last_run.set(outcome.notice.created.timestamp(), version)
        for tier, severity in outcome.notice.tiers.items():
            self._severity.set(SEVERITIES[severity], {**version, "tier": tier})
