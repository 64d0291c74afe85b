"""When drift is looked for, and who is told: `args` of the monitoring application, read by the commands too."""

import os
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.drift_report import TierName
from models.durations import Duration
from models.errors import InvalidConfig
from models.store import NAME, check_name, resolve_root

IMPORT_PATH = "deployments.app:monitoring"
"""By which serve_config.yaml names the application."""

TIERS: tuple[TierName, ...] = ("validity", "drift", "harm")

Level = Literal["warning", "critical"]
Command = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlertRule(_Settings):
    """From when on it is an incident.

    It begins when `after` of the last `of` reports of a version are at `level` or above, gets worse in the same way,
    and ends after `resolve_after` reports in a row that are below. Reports without enough data count for nothing.
    Only `tiers` are looked at.
    """

    level: Level = "warning"
    after: Annotated[int, Field(ge=1)] = 2
    of: Annotated[int, Field(ge=1, le=1000)] = 3
    resolve_after: Annotated[int, Field(ge=1, le=1000)] = 2
    tiers: Annotated[tuple[TierName, ...], Field(min_length=1)] = TIERS

    @model_validator(mode="after")
    def _possible(self) -> "AlertRule":
        if self.after > self.of:
            raise ValueError(f"after {self.after} of the last {self.of}: there are never so many")
        return self


class Schedule(_Settings):
    """When the traffic of a model is looked at.

    `version` is one of them, or by default each one that runs. `window` is how far a run looks back: a length of time,
    by default `every`, or the newest so many predictions.
    """

    model: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    version: Annotated[int, Field(ge=1)] | None = None
    every: Duration
    window: Annotated[int, Field(ge=1)] | Duration | None = None
    rule: AlertRule = AlertRule()

    @model_validator(mode="after")
    def _leaves_time(self) -> "Schedule":
        if self.every < timedelta(seconds=5):
            raise ValueError("every: a run takes seconds; at least 5s")
        return self

    @property
    def reach(self) -> int | timedelta:
        """How far a run looks back: predictions, or a length of time."""
        return self.every if self.window is None else self.window

    def covers(self, model: str, version: int) -> bool:
        """Whether it is about a version."""
        return self.model == model and self.version in (None, version)


class _Alert(_Settings):
    """Whom to tell, of what is at `level` or above. It is tried `attempts` times, and each time for `timeout_s`."""

    level: Level = "warning"
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 4


class Webhook(_Alert):
    """Where to POST: in Slack's format, which Mattermost, Rocket.Chat and Discord (`/slack`) take too, or as JSON.

    `url_env` names the environment variable that holds the address, where it is a secret.
    """

    kind: Literal["slack", "json"]
    url: Annotated[str, Field(pattern="^https?://")] | None = None
    url_env: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_address(self) -> "Webhook":
        if (self.url is None) == (self.url_env is None):
            raise ValueError("expected one of url and url_env")
        return self

    def address(self) -> str:
        """Where to POST. Raises InvalidConfig where the environment does not say it."""
        if self.url is not None:
            return self.url
        assert self.url_env is not None
        address = os.environ.get(self.url_env, "").strip()
        if not address.startswith(("http://", "https://")):
            raise InvalidConfig(f"the environment variable {self.url_env} holds no http(s) address")
        return address

    @property
    def name(self) -> str:
        """What it is called where secrets are not to be read; it stays while the address does."""
        return f"{self.kind}-{self.url_env or _digest(self.url or '')}"


class CommandAlert(_Alert):
    """A program and its arguments, run without a shell; it finds the alert on its standard input, as JSON."""

    kind: Literal["command"]
    command: Command

    @property
    def name(self) -> str:
        """What it is called; it stays while the command does."""
        return f"command-{Path(self.command[0]).name}-{_digest(*self.command)}"


Alert = Annotated[Webhook | CommandAlert, Field(discriminator="kind")]


class OnCritical(_Settings):
    """What is run once for each incident that is, or becomes, critical: to retrain, say."""

    command: Command
    timeout_s: Annotated[float, Field(gt=0)] = 3600.0


class MonitoringSettings(_Settings):
    """`args` of the monitoring application.

    `traffic` is the root of the traffic log, `store` that of the versions, both relative to the project's root unless
    they are absolute. Each run is a Ray task that reserves `num_cpus` and ends within `timeout_s`.
    """

    schedules: tuple[Schedule, ...] = ()
    alerts: tuple[Alert, ...] = ()
    on_critical: OnCritical | None = None
    traffic: str = "models/traffic"
    store: str = "models/store"
    num_cpus: Annotated[float, Field(ge=0)] = 1.0
    timeout_s: Annotated[float, Field(gt=0)] = 1800.0

    @model_validator(mode="after")
    def _unambiguous(self) -> "MonitoringSettings":
        for index, one in enumerate(self.schedules):
            for other in self.schedules[:index]:
                if one.model == other.model and (one.version == other.version or None in (one.version, other.version)):
                    raise ValueError(f"schedules: two of them are about the same versions of {one.model}")
        names = [alert.name for alert in self.alerts]
        if len(set(names)) < len(names):
            raise ValueError("alerts: two of them go to the same place")
        return self

    def schedule(self, model: str, version: int) -> Schedule | None:
        """The one that a version is looked at by."""
        return next((each for each in self.schedules if each.covers(model, version)), None)


def drift_directory(traffic: str, model: str) -> Path:
    """Where a model's drift runs and incidents are kept; on this machine where the traffic itself lies in S3."""
    root = resolve_root("models/traffic" if "://" in traffic else traffic)
    return root / "drift" / check_name(model)


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=4).hexdigest()
