"""Which version answers: the routing policy, edited by the commands and obeyed by the Router."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
VersionNumber = Annotated[int, Field(ge=1)]


class ModelPolicy(BaseModel):
    """The champion answers by default; each challenger answers its share of the traffic.

    A challenger with share 0 is loaded and can be asked for by number, but receives no traffic by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    champion: VersionNumber
    challengers: dict[VersionNumber, Share] = {}

    @model_validator(mode="after")
    def _consistent(self) -> "ModelPolicy":
        if self.champion in self.challengers:
            raise ValueError(f"version {self.champion} is the champion and cannot challenge itself")
        total = sum(self.challengers.values())
        if total > 1:
            raise ValueError(f"the challengers' shares add up to {total:g}; at most 1 can be given away")
        return self

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that must be able to answer, champion first."""
        return (self.champion, *self.challengers)

    def share(self, version: int) -> float:
        """The part of the traffic that a live version answers; the champion has what the challengers leave."""
        return self.challengers.get(version, 1 - sum(self.challengers.values()))

    def variant(self, version: int) -> str:
        """The part a version plays: `champion` or `challenger`."""
        return "champion" if version == self.champion else "challenger"


class RoutingPolicy(BaseModel):
    """The Router's user_config. `default_model` answers requests that name none; the first model if not set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_model: str | None = None
    models: dict[str, ModelPolicy] = {}

    @model_validator(mode="after")
    def _default_is_there(self) -> "RoutingPolicy":
        if self.default_model is not None and self.default_model not in self.models:
            raise ValueError(f"default_model {self.default_model!r} is not among the models")
        return self

    @property
    def default(self) -> str | None:
        """Name of the model that answers requests which name none."""
        return self.default_model or next(iter(self.models), None)


def application_name(model: str, version: int) -> str:
    """Name of the Serve application that runs a version."""
    return f"{model}-v{version}"
