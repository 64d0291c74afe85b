"""Where the rollouts of a model stand: what the file declares, what its history says, what runs, what is measured."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobs.serve_config import ServeConfig, declared_by
from jobs.service import Service
from models.errors import InvalidConfig
from models.policy import ModelPolicy, RoutingPolicy, Variant, application_name, versions_of
from models.rollout import Event, standings


@dataclass(frozen=True, slots=True)
class Part:
    """The part that a version plays: the share that is declared, and the one it has by the history."""

    version: int
    variant: Variant
    declared: float
    share: float
    since: datetime | None = None
    stopped_because: str | None = None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A part, the status of its application and the number of its replicas, and what the gateway measured of it."""

    part: Part
    application: str | None = None
    replicas: int | None = None
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """All versions of a model, champion first. `applied` is whether what runs was told what the file says."""

    model: str
    versions: tuple[VersionStatus, ...]
    applied: bool | None


def parts(policy: ModelPolicy, events: Iterable[Event]) -> list[Part]:
    """Every version of a model, champion first."""
    stand = standings(events, policy)
    given = sum(stand[version].share for version in policy.challengers)
    found = [Part(policy.champion, "champion", policy.share(policy.champion), max(0.0, 1 - given))]
    for version, declared in {**policy.challengers, **policy.shadows}.items():
        now = stand[version]
        since = now.since if now.since.timestamp() else None
        found.append(Part(version, policy.variant(version), declared, now.share, since, now.stopped_because))
    return found


def parts_of(config: ServeConfig, model: str, more: Sequence[Event] = ()) -> list[Part]:
    """Every version of a model by a file and the model's history; empty where it is not in the file."""
    if model not in config.policy.models:
        return []
    return parts(config.model(model), [*config.history(model).events(), *more])


def statuses(config: ServeConfig, model: str | None, service: Service | None) -> list[ModelStatus]:
    """The status of one model or of all. Raises ModelNotFound, ServiceError."""
    names = list(config.policy.models) if model is None else [model]
    policies = {name: config.model(name) for name in names}
    applications = {} if service is None else service.details()["applications"]
    live = _live_policy(applications)
    return [_status(config, name, policies[name], service, applications, live) for name in names]


def _status(
    config: ServeConfig,
    model: str,
    policy: ModelPolicy,
    service: Service | None,
    applications: dict[str, Any],
    live: RoutingPolicy | None,
) -> ModelStatus:
    rollout = (service.rollout(model) if service is not None else None) or {}
    measured = {each["version"]: each for each in rollout.get("variants", [])}
    versions = []
    for part in parts_of(config, model):
        running = applications.get(application_name(model, part.version))
        versions.append(
            VersionStatus(
                part,
                None if running is None else running["status"],
                None if running is None else _replicas(running),
                measured.get(part.version, {}),
            )
        )
    applied = None if live is None else live.models.get(model) == policy
    return ModelStatus(model, tuple(versions), applied)


def _replicas(application: dict[str, Any]) -> int:
    return sum(len(deployment.get("replicas", [])) for deployment in application.get("deployments", {}).values())


def _live_policy(applications: dict[str, Any]) -> RoutingPolicy | None:
    """What the Routers were told last; None where none runs."""
    told = (application.get("deployed_app_config") or {} for application in applications.values())
    try:
        return declared_by(told).resolved(versions_of(applications.keys()))
    except InvalidConfig:
        return None
