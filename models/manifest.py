"""A version's manifest.json: what it is, how it was made, and which artifact of it runs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import InvalidManifest
from models.preprocessing import Preprocessing
from models.signature import Signature
from models.validation import first_fault

MANIFEST = "manifest.json"

ArtifactKind = Literal["savedmodel", "onnx", "onnx-int8", "openvino", "openvino-int8"]
"""What runs and how. The files of `openvino` and `openvino-int8` are those of `onnx` and `onnx-int8`."""

EXACT: frozenset[ArtifactKind] = frozenset({"savedmodel", "onnx"})
"""Kinds that compute in the precision of their model; the others are used within a tolerance only."""

Precision = Literal["float32", "bfloat16", "float16"]
OutputKind = Literal["probabilities", "logits", "tensors"]


class Embedding(BaseModel):
    """A second output of an ONNX artifact: what its last layer takes, by a fixed random projection.

    `tensor` is that layer's input, `width` values a row; they are multiplied by a matrix [width, dimensions] of a
    normal distribution with this `seed`, divided by the root of `width`, and given as float16. The signature does not
    list it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    tensor: str
    width: int
    dimensions: int
    seed: int


class Artifact(BaseModel):
    """One runnable form of a version.

    `path` is relative to the version's directory. `max_abs_diff` compares its outputs on the golden inputs with
    those of the model it was made from; `latency_ms` is the median of single rows on the publishing machine.

    One that is not exact (int8, OpenVINO) is also compared with the ONNX artifact on `compared_rows` rows that int8 was
    not calibrated with: `agreement` is the share of them with the same likeliest class, `relative_diff` the largest
    difference as a share of the output's range. Its `max_abs_diff` is over those rows too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ArtifactKind
    path: str
    sha256: str | None = None
    bytes: int
    max_abs_diff: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    agreement: float | None = None
    relative_diff: float | None = None
    compared_rows: int | None = None
    precision: Precision | None = None
    embedding: Embedding | None = None


class ReferenceFile(BaseModel):
    """The validation set's features and answers (models/reference.py); `rows` of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str
    bytes: int
    rows: int


class LeftOut(BaseModel):
    """An artifact that is not part of the version, why, and what was measured of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ArtifactKind
    why: str
    measured: Artifact | None = None


class DecodingCheck(BaseModel):
    """What scaled decoding does to the answers: the chosen artifact on `rows` pictures, each decoded both ways.

    `accuracy_loss` is the share of labelled ones that only full decoding gets right, where there are any. `agreement`
    and `relative_diff` as for artifacts; pixel differences are of 255; `time_ratio` is the time of scaled
    against full preprocessing. `verdict` says in words whether it is used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    agreement: float | None = None
    relative_diff: float | None = None
    accuracy_loss: float | None = None
    mean_pixel_diff: float
    max_pixel_diff: int
    time_ratio: float
    verdict: str


class Provenance(BaseModel):
    """Where a version comes from. `data_sha256` names the training data, `code_commit` the source tree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    source: str
    data_sha256: str | None = None
    code_commit: str | None = None
    libraries: dict[str, str] = {}


class Manifest(BaseModel):
    """All that is known of one version.

    `output` says what the model answers with: class `probabilities`, `logits` that a softmax turns into them, or
    `tensors` that are not classes at all. A version with `preprocessing` takes images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    model: str
    version: int = Field(ge=1)
    signature: Signature
    preprocessing: Preprocessing | None = None
    output: OutputKind = "tensors"
    labels: tuple[str, ...] | None = None
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    chosen: ArtifactKind
    chosen_because: str
    left_out: tuple[LeftOut, ...] = ()
    decoding: DecodingCheck | None = None
    reference: ReferenceFile | None = None
    metrics: dict[str, float] = {}
    provenance: Provenance | None = None

    @model_validator(mode="after")
    def _chosen_is_there(self) -> "Manifest":
        if self.chosen not in {artifact.kind for artifact in self.artifacts}:
            raise ValueError(f"chosen artifact {self.chosen!r} is not among the artifacts")
        return self

    def find(self, kind: ArtifactKind) -> Artifact:
        """The artifact of that kind. Raises KeyError."""
        for artifact in self.artifacts:
            if artifact.kind == kind:
                return artifact
        raise KeyError(kind)


def read_manifest(directory: Path) -> Manifest:
    """Read `directory/manifest.json`. Raises InvalidManifest naming the field."""
    name = f"{directory.parent.name}/{directory.name}"
    try:
        return Manifest.model_validate_json((directory / MANIFEST).read_bytes())
    except OSError as error:
        raise InvalidManifest(f"{name}: {MANIFEST} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise InvalidManifest(f"{name}: {MANIFEST}: {first_fault(error, 'the file')}") from None
