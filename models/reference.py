"""What the traffic of a version is compared with: answers from a time when all was well.

    <store>/<model>/<version>/reference.parquet      of the validation set, written by `publish`
    <store>/<model>/references/<version>.parquet     of early production, frozen by `tiltyard reference`; it counts

Both have the columns of the traffic log (models/traffic.py) that apply, and `true_label`. Every row counts the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import InvalidVersion
from models.manifest import Manifest
from models.store import Store, sha256
from models.traffic import PREDICTIONS

REFERENCE: Final = "reference.parquet"
FROZEN: Final = "references"

TRUE_LABEL: Final = "true_label"
"""The right class of a row; null where nobody told it."""

OUTPUTS: Final = ("label", "confidence", "margin", "entropy", "probabilities", "embedding")
"""The columns of PREDICTIONS that tell of the answer."""

ORIGIN: Final = ("schema_version", "time", "item", "model", "key_id", "weight")
"""Those that tell where a row comes from; the version is told by the file's place."""

_METADATA = b"tiltyard.reference"

ReferenceSource = Literal["validation", "traffic"]


class ReferenceOrigin(BaseModel):
    """Where the rows come from; kept in the file's metadata.

    `since` and `until` are the span of the traffic, `drawn_from` the number of predictions in it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    source: ReferenceSource
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    since: datetime | None = None
    until: datetime | None = None
    drawn_from: int | None = None


@dataclass(frozen=True, slots=True)
class FoundReference:
    """A reference in use."""

    path: Path
    rows: int
    origin: ReferenceOrigin

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows; a column that it does not have is left out."""
        there = pq.read_schema(self.path).names
        return pq.read_table(self.path, columns=None if columns is None else [c for c in columns if c in there])


def find_reference(store: Store, model: str, version: int) -> FoundReference | None:
    """The reference that a version's traffic is compared with; None where there is none yet.

    Raises ModelNotFound, VersionNotFound, or InvalidVersion where the file is not what it was.
    """
    directory = store.directory(model, version)
    frozen = frozen_path(store, model, version)
    if frozen.exists():
        return _found(frozen)
    manifest = store.manifest(model, version)
    if manifest is None or manifest.reference is None:
        return None
    return _found(_verified(directory, manifest))


def frozen_path(store: Store, model: str, version: int) -> Path:
    """Where production is frozen: beside the versions, because those do not change."""
    return store.root / model / FROZEN / f"{version}.parquet"


def write_reference(path: Path, rows: pa.Table, origin: ReferenceOrigin) -> None:
    """Write rows with their origin."""
    metadata = {**(rows.schema.metadata or {}), _METADATA: origin.model_dump_json().encode()}
    pq.write_table(rows.replace_schema_metadata(metadata), path, compression="zstd")


def field_of(name: str) -> pa.Field:
    """The field of a column of the traffic log, which may be null here."""
    return PREDICTIONS.field(name).with_nullable(True)


def _verified(directory: Path, manifest: Manifest) -> Path:
    assert manifest.reference is not None
    path = directory / manifest.reference.path
    if not path.exists() or sha256(path) != manifest.reference.sha256:
        raise InvalidVersion(f"{manifest.model} version {manifest.version}: {path.name} is missing or has changed")
    return path


def _found(path: Path) -> FoundReference:
    try:
        metadata = pq.read_metadata(path)
        origin = ReferenceOrigin.model_validate_json((metadata.metadata or {})[_METADATA])
    except (pa.ArrowInvalid, OSError, KeyError, ValidationError) as error:
        raise InvalidVersion(f"{path.parent.name}/{path.name} is not a reference ({type(error).__name__})") from None
    return FoundReference(path, metadata.num_rows, origin)
