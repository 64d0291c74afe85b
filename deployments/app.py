"""The builders that serve_config.yaml names.

One gateway, and one application per live version:

gateway:         Router -> Preprocessor --+      Referee <- what each Router saw
                    |                     v
digits-v1:          +---------------> ModelServer
digits-v2:          +---------------> ModelServer
monitoring:      Monitoring -> tasks that look for drift, where it is configured
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from fastapi import FastAPI
from pydantic import BaseModel, ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from ray.util.metrics import Counter

from deployments.api import create_api
from deployments.drift_surroundings import RaySurroundings
from deployments.feedback import Noted, Truth
from deployments.handles import ModelServerHandles, PreprocessorHandle, RefereeOfApplication
from deployments.model_server import ModelServer
from deployments.monitoring import Monitoring
from deployments.precedence import take_precedence
from deployments.predicting_replica import PredictingReplica
from deployments.preprocessor import Preprocessor
from deployments.referee import Directive, Referee
from deployments.reporting import Reporting
from deployments.resolution import Resolution
from deployments.router import Router
from deployments.scores import RouterReport
from deployments.settings import GatewaySettings, VersionSettings
from deployments.traffic_flush import Count
from deployments.traffic_log import TrafficLog
from models.drift_notice import DriftNotice
from models.errors import ServiceError
from models.monitoring import MonitoringSettings
from models.policy import DeclaredRouting, RoutingPolicy
from models.store import Store
from models.validation import first_fault

logger = logging.getLogger("ray.serve")


def gateway(settings: GatewaySettings) -> Application:
    """The front door: HTTP, routing, preprocessing."""
    preprocessor = PREPROCESSOR.bind(settings.preprocessor_threads)
    referee = REFEREE.bind(settings.store)
    # The Router admits requests itself and says why it refuses one, so Serve's own limit lies above its.
    return ROUTER.options(max_ongoing_requests=2 * settings.max_concurrent_requests).bind(
        settings, preprocessor, referee
    )


def monitoring(settings: MonitoringSettings) -> Application:
    """Looks for drift on a schedule."""
    return MONITORING.bind(settings)


def model_version(settings: VersionSettings) -> Application:
    """One version of one model."""
    return MODEL_SERVER.bind(settings)


@serve.ingress()
class Ingress:
    """The Router behind HTTP."""

    user_config_type: ClassVar[type[BaseModel]] = DeclaredRouting

    def __init__(self, settings: GatewaySettings, preprocessor: DeploymentHandle, referee: DeploymentHandle) -> None:
        self._referee = RefereeOfApplication(referee)
        log = TrafficLog(settings.traffic_log, count_records()) if settings.traffic_log is not None else None
        self._router = Router(settings, PreprocessorHandle(preprocessor), ModelServerHandles(), log)
        if log is not None:
            log.start()
        self._reporting = Reporting(self._router, self._referee)
        self._resolution = Resolution(self._obey, application_statuses)
        self._tasks: list[asyncio.Task[None]] = []
        take_precedence()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Give Ray Serve the ASGI application of this replica."""
        return create_api(self._router, self._referee, echo_request_id=False)

    def __del__(self) -> None:
        """Write what is left of the traffic log; Ray Serve calls this when the replica is drained."""
        router: Router | None = getattr(self, "_router", None)  # None where __init__ raised
        if router is not None and router.log is not None:
            router.log.close()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a new routing policy without a restart.

        One that is none is refused, and the one before stays: Ray Serve would stop a replica that raises here, and no
        other could start. Raises ValidationError where there is none before.
        """
        try:
            declared = DeclaredRouting.model_validate(user_config)
        except ValidationError as error:
            if not self._tasks:
                raise
            self._router.refused = f"Router user_config: {first_fault(error)}"
            logger.error("%s; the one before stays", self._router.refused)
            return
        self._router.refused = None
        self._resolution.declare(declared)
        if not self._tasks:
            self._tasks = [asyncio.ensure_future(each.run()) for each in (self._reporting, self._resolution)]
            await self._resolution.start()

    def _obey(self, policy: RoutingPolicy) -> None:
        self._router.reconfigure(policy)
        self._router.meet()
        self._reporting.report_soon()


def application_statuses() -> dict[str, str]:
    """The status of each Serve application by its name; asks the controller, and waits for it."""
    return {name: each.status.value for name, each in serve.status().applications.items()}


class RefereeReplica:
    """The referee of all Routers."""

    def __init__(self, store: str) -> None:
        self._referee = Referee(Store(store))
        self._judging: asyncio.Task[None] | None = None

    async def report(self, report: RouterReport) -> Directive:
        """Take in what a Router saw, and tell it what to do."""
        if self._judging is None:
            self._judging = asyncio.ensure_future(self._judge())
        return self._referee.report(report)

    async def rollout(self, model: str) -> dict[str, Any]:
        """Where a model's rollout stands, as JSON. Raises ModelNotFound."""
        return self._referee.rollout(model)

    async def feedback(self, truths: Sequence[Truth]) -> list[Noted]:
        """Note what the classes of requests, by id, really were."""
        return self._referee.feedback(truths)

    async def drift(self, notices: Sequence[DriftNotice]) -> None:
        """Take in how drift stands, one notice for each version of a model."""
        self._referee.drift(notices)

    async def _judge(self) -> None:
        while True:
            await asyncio.sleep(JUDGE_PERIOD_S)
            try:
                self._referee.judge()
            except Exception:  # one bad look must not be the last
                logger.exception("the referee could not judge")


class MonitoringReplica:
    """The schedules, in a process of their own that only waits; each run is a task beside it."""

    def __init__(self, settings: MonitoringSettings) -> None:
        self._monitoring = Monitoring(settings, RaySurroundings(settings))
        self._watching = asyncio.get_running_loop().create_task(self._monitoring.watch())

    def check_health(self) -> None:
        """Raise where nothing is looked for any more; Ray Serve then starts it anew."""
        if self._watching.done():
            raise ServiceError("the schedules have ended")


class PreprocessorReplica(Preprocessor, PredictingReplica):
    """A Preprocessor that reaches the versions through their handles."""

    def __init__(self, threads: int) -> None:
        Preprocessor.__init__(self, ModelServerHandles(), threads, serve.get_replica_context().replica_id.unique_id)
        PredictingReplica.__init__(self, self.predict)
        take_precedence()


def count_records() -> Count:
    """Ray's counter tiltyard_traffic_records_total, to which Ray adds the `_total`."""
    counter = Counter(
        "tiltyard_traffic_records",
        "Records of the traffic log by what became of them: stored, sampled_out, lost_<reason>.",
        ("model", "state"),
    )

    def count(model: str, state: str, records: int) -> None:
        counter.inc(records, {"model": model, "state": state})

    return count


JUDGE_PERIOD_S = 1.0

# A line per call between deployments tells nobody anything: the Router's access log has every request.
QUIET = LoggingConfig(enable_access_log=False)

# What a deployment is unless serve_config.yaml says otherwise. num_cpus tells Ray how many replicas fit on a machine,
# and a ModelServer how many threads to run a batch on where its settings do not say it: at least one.
ROUTER = serve.deployment(
    name="Router",
    graceful_shutdown_timeout_s=20,
    ray_actor_options={"num_cpus": 0.2},
)(Ingress)
PREPROCESSOR = serve.deployment(
    name="Preprocessor",
    max_ongoing_requests=256,
    max_queued_requests=256,
    graceful_shutdown_timeout_s=20,
    health_check_period_s=5,
    logging_config=QUIET,
    ray_actor_options={"num_cpus": 0.2},
)(PreprocessorReplica)
REFEREE = serve.deployment(
    name="Referee",
    max_ongoing_requests=256,
    logging_config=QUIET,
    ray_actor_options={"num_cpus": 0.1},
)(RefereeReplica)
MONITORING = serve.deployment(
    name="Monitoring",
    num_replicas=1,
    logging_config=QUIET,
    ray_actor_options={"num_cpus": 0.1},
)(MonitoringReplica)
MODEL_SERVER = serve.deployment(
    name="ModelServer",
    max_ongoing_requests=256,
    max_queued_requests=256,
    graceful_shutdown_timeout_s=20,
    health_check_period_s=5,
    max_constructor_retry_count=3,
    autoscaling_config={"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 1.5},
    logging_config=QUIET,
    ray_actor_options={"num_cpus": 0.2},
)(ModelServer)
