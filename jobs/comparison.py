"""What the gateway says of a model's variants: GET /models/{name}/rollout, read into one typed object."""

from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.service import get_json
from models.checks import Decision
from models.errors import ModelNotFound, ServiceError, ServiceNotRunning
from models.store import check_name
from models.validation import first_fault
from models.verdict import Ruling


class _Read(BaseModel):
    """Read from another process, which may be newer: what is not known here is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Statistics(_Read):
    """Sums of one version's traffic; see models.variant_statistics. `latency` is (lower ms, upper ms, answers)."""

    requests: int = 0
    answered: int = 0
    failed: int = 0
    failures: dict[str, int] = {}
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    latency: tuple[tuple[float, float, int], ...] = ()
    confidence: float | None = None
    classes: dict[str, int] = {}
    compared: int = 0
    agreed: float = 0
    mean_difference: float | None = None
    max_difference: float | None = None
    pairs: tuple[tuple[str, str, int], ...] = ()
    dropped: int = 0
    labelled: int = 0
    correct: int = 0

    @property
    def error_rate(self) -> float | None:
        """Share of the requests that failed; None without requests."""
        return self.failed / self.requests if self.requests else None


class Check(_Read):
    """One guard's view: the loss against the champion with its interval, and the loss that is accepted."""

    name: str
    decision: Decision = "hold"
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    champion: float | None = None
    challenger: float | None = None
    needed: int | None = None


class Verdict(_Read):
    """What the referee thinks of a variant, and why."""

    decision: Ruling
    because: str = ""
    checks: tuple[Check, ...] = ()


class Disagreement(_Read):
    """A request that the champion and this version answered differently."""

    request_id: str
    champion: str
    version: str


class VariantReport(_Read):
    """One version with the part it plays. `declared` is its share in the file, `share` the one it has now."""

    version: int
    variant: Literal["champion", "challenger", "shadow"]
    declared: float = 0.0
    share: float = 0.0
    stopped_because: str | None = None
    breaker: str | None = None
    statistics: Statistics = Statistics()
    disagreements: tuple[Disagreement, ...] = ()
    verdict: Verdict | None = None


class Past(_Read):
    """One decision of the history."""

    time: datetime
    version: int
    action: str
    by: str
    share: float | None = None
    because: str = ""


class Comparison(_Read):
    """The variants of a model side by side."""

    model: str
    champion: int
    routers: int | None = None
    since: datetime | None = None
    variants: tuple[VariantReport, ...] = Field(default=())
    history: tuple[Past, ...] = ()

    @property
    def contenders(self) -> tuple[VariantReport, ...]:
        """All but the champion."""
        return tuple(each for each in self.variants if each.variant != "champion")

    @property
    def champions(self) -> Statistics:
        """The champion's statistics; empty ones where the gateway has none."""
        found = (each.statistics for each in self.variants if each.variant == "champion")
        return next(found, Statistics())

    def answered_share(self, report: VariantReport) -> float | None:
        """The part of all answers to clients that came from a variant; None for a shadow and without traffic."""
        total = sum(each.statistics.requests for each in self.variants if each.variant != "shadow")
        return None if report.variant == "shadow" or not total else report.statistics.requests / total


def fetch(gateway: str, model: str) -> Comparison:
    """Ask the gateway. Raises ModelNotFound, ServiceNotRunning and ServiceError."""
    status, body = get_json(f"{gateway.rstrip('/')}/models/{check_name(model)}/rollout")
    if status == 0:
        raise ServiceNotRunning(f"no gateway answers at {gateway}; `make serve` starts one, --gateway names another")
    if status == 404:
        raise ModelNotFound(_message(body) or f"no model {model!r}")
    if status != 200:
        raise ServiceError(f"the gateway answered with status {status}: {_message(body) or 'no reason given'}")
    return parse(body)


def parse(body: Any) -> Comparison:
    """Read the gateway's JSON. Raises ServiceError and names the first field that is wrong."""
    try:
        return Comparison.model_validate(body)
    except ValidationError as error:
        why = first_fault(error, "the document")
        raise ServiceError(f"the gateway's answer cannot be read: {why}") from None


def parse_checks(checks: Any) -> list[Check]:
    """Read the checks of a verdict, as they stand in a history; what cannot be read is left out."""
    found = []
    for each in checks if isinstance(checks, list) else ():
        with suppress(ValidationError):
            found.append(Check.model_validate(each))
    return found


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""
