"""Who answers: the routing policy, edited by the commands, obeyed by the Router and enforced by the referee."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models.version_policy import LATEST, Newcomers, Share, VersionNumber, VersionPolicy

__all__ = ["Share", "VersionNumber"]

Variant = Literal["champion", "challenger", "shadow"]


class Sticky(BaseModel):
    """What requests stick by: who sends the same value keeps the same variant while the shares stay.

    `by` names a header, the API key (`authorization` or `x-api-key`, only its hash is looked at), or a field of the
    query string. A request without it is drawn at random. Another `salt` draws everybody anew.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["header", "api_key", "field"]
    name: Annotated[str, Field(min_length=1)] | None = None
    salt: str = ""

    @model_validator(mode="after")
    def _named(self) -> "Sticky":
        if (self.name is None) != (self.by == "api_key"):
            raise ValueError(f"name: {'not used with' if self.name else 'missing for'} by: {self.by}")
        return self


class Fallback(BaseModel):
    """How the champion stands in for a challenger that fails.

    A challenger has `after_s` to answer, and never more than half of what is left of the request's deadline. After
    `breaker_failures` failures in a row a Router leaves it alone for `breaker_reset_s`, then tries one request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    after_s: Annotated[float, Field(gt=0)] = 1.0
    breaker_failures: Annotated[int, Field(ge=1)] = 5
    breaker_reset_s: Annotated[float, Field(gt=0)] = 30.0


class Ramp(BaseModel):
    """How a challenger's share grows to its weight: the shares on the way, and what it takes to go on.

    The referee goes one step on when no guard objects, each has seen enough to rule out the loss it accepts, and the
    step has lasted `min_seconds` and `min_requests` of the challenger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.01, 0.05, 0.25)
    min_seconds: Annotated[float, Field(ge=0)] = 60.0
    min_requests: Annotated[int, Field(ge=1)] = 100

    @model_validator(mode="after")
    def _rises(self) -> "Ramp":
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps {list(self.steps)} must rise")
        return self


class Guard(BaseModel):
    """What one accepts of a challenger; null switches a guard off.

    Losses are absolute: 0.01 of the error rate is one request of a hundred. `max_p99_ratio` compares latency with the
    champion's 99th percentile. `max_disagreement` is the share of compared requests whose class differs from the
    champion's; where models do not answer with classes, whose values differ by more than `tolerance`, relatively and
    absolutely, and without a tolerance nobody is stopped for that. `max_confidence_shift` is the difference of the mean
    probability of the answered class, `max_accuracy_loss` needs feedback. `stop_on_drift` stops a version whose drift
    report is that bad or worse, unless the champion's is as bad: then the traffic has changed, for both. `compare` is
    the share of a challenger's answers that the champion is asked for too, without delaying them. `significance` is the
    chance, over a whole rollout, of stopping an equal challenger.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_error_rate_loss: Annotated[float, Field(gt=0, lt=1)] | None = 0.02
    max_p99_ratio: Annotated[float, Field(gt=1)] | None = 3.0
    max_disagreement: Annotated[float, Field(gt=0, lt=1)] | None = 0.3
    max_confidence_shift: Annotated[float, Field(gt=0, lt=1)] | None = 0.2
    max_accuracy_loss: Annotated[float, Field(gt=0, lt=1)] | None = 0.02
    stop_on_drift: Literal["warning", "critical"] | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    compare: Share = 0.1
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05


class DeclaredPolicy(BaseModel):
    """What the file says of a model: the champion and all others by their numbers, or else a `version_policy`.

    Without a champion, the newest of the versions that run is champion, and the others can be asked for by number and
    label. `version_policy`, the latest one by default, says which of the published versions run. A version that a label
    names stays. `newcomers` says what a new version becomes beside a champion that is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: VersionNumber | None = None
    version_policy: VersionPolicy | None = None
    newcomers: Newcomers = Newcomers()
    challengers: dict[VersionNumber, Share] = {}
    shadows: dict[VersionNumber, Share] = {}
    labels: dict[str, VersionNumber] = {}
    sticky: Sticky | None = None
    fallback: Fallback = Fallback()
    ramp: Ramp | None = None
    guard: Guard = Guard()

    @model_validator(mode="after")
    def _names_the_champion_or_none(self) -> "DeclaredPolicy":
        if self.champion is not None and self.version_policy is not None:
            raise ValueError(
                f"champion {self.champion} and a version_policy, which makes the newest version champion, contradict"
                " each other; keep one of them"
            )
        if self.champion is None and (self.challengers or self.shadows):
            raise ValueError("challengers and shadows need a champion that is named by its number")
        specific = self.version_policy.specific if self.version_policy is not None else None
        for label, version in self.labels.items():
            if specific is not None and version not in specific.versions:
                raise ValueError(f"label {label!r}: version {version} is not among the specific ones")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "DeclaredPolicy":
        if self.champion in self.challengers:
            raise ValueError(f"version {self.champion} is the champion and cannot challenge itself")
        for version in self.shadows:
            if version == self.champion or version in self.challengers:
                raise ValueError(f"version {version} answers and cannot be its own shadow")
        total = sum(self.challengers.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the challengers' shares add up to {total:g}; at most 1 can be given away")
        live = (self.champion, *self.challengers, *self.shadows)
        for label, version in self.labels.items():
            if self.champion is not None and version not in live:
                raise ValueError(f"label {label!r}: version {version} is not live; there are: {live}")
        return self

    def chosen(self, versions: Collection[int]) -> tuple[int, ...]:
        """Those of some versions that are to be live where no champion is named, oldest first."""
        chosen = (self.version_policy or LATEST).chosen(versions)
        return tuple(sorted({*chosen, *(set(self.labels.values()) & set(versions))}))

    def resolved(self, running: Collection[int]) -> "ModelPolicy | None":
        """Who answers while these versions run; None while nobody can."""
        if self.champion is not None:
            return ModelPolicy.model_validate(dict(self))
        live = self.chosen(running)
        if not live:
            return None
        found = {
            "champion": live[-1],
            "version_policy": None,
            "challengers": dict.fromkeys(reversed(live[:-1]), 0.0),
            "labels": {label: version for label, version in self.labels.items() if version in live},
        }
        return ModelPolicy.model_validate({**dict(self), **found})


class ModelPolicy(DeclaredPolicy):
    """The champion answers by default; each challenger answers its share of the traffic; shadows only watch.

    A challenger with share 0 is loaded and can be asked for by number, but receives no traffic by itself. A shadow's
    number is the share of the requests that it is sent a copy of. `labels` name versions for TensorFlow Serving's
    clients.
    """

    champion: VersionNumber

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that must be able to answer, champion first."""
        return (self.champion, *self.challengers, *self.shadows)

    def share(self, version: int) -> float:
        """The part of the traffic that a live version answers; the champion has what the challengers leave."""
        if version in self.shadows:
            return 0.0
        return self.challengers.get(version, max(0.0, 1 - sum(self.challengers.values())))

    def variant(self, version: int) -> Variant:
        """The part a version plays."""
        if version == self.champion:
            return "champion"
        return "shadow" if version in self.shadows else "challenger"

    @property
    def parts(self) -> dict[int, tuple[Variant, float]]:
        """The part that each version plays, champion first, and its share of the traffic, of a shadow of copies."""
        return {v: (self.variant(v), self.shadows.get(v, self.share(v))) for v in self.versions}

    def with_shares(self, shares: Mapping[int, float]) -> "ModelPolicy":
        """The policy with other shares for some of its challengers and shadows: where their rollouts stand."""
        return self.model_copy(
            update={
                "challengers": {version: shares.get(version, share) for version, share in self.challengers.items()},
                "shadows": {version: shares.get(version, share) for version, share in self.shadows.items()},
            }
        )


class RoutingPolicy(BaseModel):
    """Who answers for each model. `default_model` answers requests that name none; the first model if not set.

    `awaited` are models that are declared, but of which no version runs that could answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_model: str | None = None
    models: dict[str, ModelPolicy] = {}
    awaited: tuple[str, ...] = ()

    @property
    def default(self) -> str | None:
        """Name of the model that answers requests which name none."""
        return self.default_model or next(iter(self.models), None)


class DeclaredRouting(BaseModel):
    """The Router's user_config. A model of which nothing more is said than its name has no champion named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_model: str | None = None
    models: dict[str, Annotated[DeclaredPolicy, BeforeValidator(lambda entry: {} if entry is None else entry)]] = {}

    @model_validator(mode="after")
    def _default_is_there(self) -> "DeclaredRouting":
        if self.default_model is not None and self.default_model not in self.models:
            raise ValueError(f"default_model {self.default_model!r} is not among the models")
        return self

    @property
    def open_models(self) -> tuple[str, ...]:
        """Models without a champion that is named by its number."""
        return tuple(name for name, entry in self.models.items() if entry.champion is None)

    def resolved(self, running: Mapping[str, Collection[int]]) -> RoutingPolicy:
        """Who answers while these versions of models run; models of which none can are awaited."""
        found = {name: entry.resolved(running.get(name, ())) for name, entry in self.models.items()}
        default = self.default_model or next(iter(self.models), None)
        return RoutingPolicy(
            default_model=default,
            models={name: policy for name, policy in found.items() if policy is not None},
            awaited=tuple(name for name, policy in found.items() if policy is None),
        )


def application_name(model: str, version: int) -> str:
    """Name of the Serve application that runs a version."""
    return f"{model}-v{version}"


def versions_of(applications: Collection[str]) -> dict[str, set[int]]:
    """The versions by model that applications of these names run."""
    found: dict[str, set[int]] = {}
    for name in applications:
        if match := re.fullmatch(r"(.+)-v([1-9][0-9]*)", name):
            found.setdefault(match[1], set()).add(int(match[2]))
    return found
