"""Which published versions of a model are live, and what becomes of new ones, where nobody names them one by one."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

VersionNumber = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Latest(BaseModel):
    """The newest versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_versions: Annotated[int, Field(ge=1)] = 1


class Specific(BaseModel):
    """These versions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: Annotated[tuple[VersionNumber, ...], Field(min_length=1)]


class All(BaseModel):
    """Every version."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionPolicy(BaseModel):
    """TensorFlow Serving's `model_version_policy`: one of `latest`, `specific` and `all`; the newest is champion.

    `latest` and `all` are short for `{latest: {}}` and `{all: {}}`.

    Source: https://www.tensorflow.org/tfx/serving/serving_config#serving_a_specific_version_of_a_model
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    latest: Latest | None = None
    specific: Specific | None = None
    all: All | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {value: {}} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one(self) -> "VersionPolicy":
        if sum(each is not None for each in (self.latest, self.specific, self.all)) != 1:
            raise ValueError("expected one of latest, specific and all")
        return self

    def chosen(self, versions: Collection[int]) -> tuple[int, ...]:
        """Those of some versions that are to be live, oldest first."""
        if self.specific is not None:
            return tuple(sorted(set(versions) & set(self.specific.versions)))
        newest = self.latest.num_versions if self.latest is not None else len(versions)
        return tuple(sorted(versions))[-newest:] if versions else ()


LATEST = VersionPolicy(latest=Latest())
"""What TensorFlow Serving does unless it is told otherwise."""


class Newcomers(BaseModel):
    """What a version that appears in the store becomes beside a champion that is named by its number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Literal["challenger", "shadow"] = "shadow"
    share: Share = 0.2
