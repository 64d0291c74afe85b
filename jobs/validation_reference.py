"""The reference that a version is published with: its validation set, told as the traffic log tells of traffic.

Images that were given as files are told as they would be sent. Of pixels that somebody resized before, only what
resizing keeps is told: mean brightness and colours. Size, format and sharpness of the files are unknown, and null.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.measurement import Validation, batches
from models.backends import EMBEDDING, Backend
from models.errors import InvalidRequest
from models.features import Columns, image_columns, image_features, sample, sample_array, tensor_features
from models.manifest import Manifest, ReferenceFile
from models.prediction_columns import prediction_columns
from models.preprocessing import Preprocessing, picture, to_tensor
from models.reference import MAX_ROWS, REFERENCE, TRUE_LABEL, ReferenceOrigin, field_of, write_reference
from models.signature import Tensors
from models.store import sha256
from models.traffic import IMAGE, SCHEMA_VERSION

Indices = npt.NDArray[np.intp]

_COLOURS = ("red", "green", "blue")


def write_validation_reference(
    directory: Path, manifest: Manifest, backend: Backend, validation: Validation
) -> ReferenceFile | None:
    """Write `reference.parquet` of at most MAX_ROWS labelled rows, answered by the chosen artifact.

    None where a model of a fixed batch size is given fewer rows than that. Raises ModelFailed.
    """
    tables = list(_tables(manifest, backend, validation))
    if not tables:
        return None
    rows = pa.concat_tables(tables)
    origin = ReferenceOrigin(source="validation", drawn_from=len(validation))
    constants = {"schema_version": SCHEMA_VERSION, "time": origin.created, "model": manifest.model, "weight": 1.0}
    for name, value in constants.items():
        field = field_of(name)
        rows = rows.append_column(field, pa.repeat(pa.scalar(value, field.type), len(rows)))
    path = directory / REFERENCE
    write_reference(path, rows, origin)
    return ReferenceFile(path=path.name, sha256=sha256(path), bytes=path.stat().st_size, rows=len(rows))


def check_classes(validation: Validation, classes: int) -> None:
    """Check that each index names a class. Raises InvalidRequest."""
    lowest, highest = int(validation.classes.min()), int(validation.classes.max())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise InvalidRequest(f"`classes` of the validation rows holds {wrong}, but the model has {classes} classes")


def _tables(manifest: Manifest, backend: Backend, validation: Validation) -> Iterator[pa.Table]:
    """Batch by batch: the pictures of a large set are not decoded all at once."""
    chosen = np.linspace(0, len(validation) - 1, min(MAX_ROWS, len(validation))).astype(np.intp)
    for batch in batches({"row": chosen}, manifest.signature.batch_size):
        rows = batch["row"]
        inputs, features = _inputs(manifest, validation, rows)
        outputs = dict(backend.run_with_embedding(inputs))
        embedding = outputs.pop(EMBEDDING, None)
        columns = {
            "item": pa.array(rows, field_of("item").type),
            **prediction_columns(outputs, manifest.output, manifest.labels).arrow(),
            "embedding": _embeddings(embedding, len(rows)),
            TRUE_LABEL: pa.array(_names(validation.classes[rows], manifest.labels), pa.string()),
            **{name: _column(name, values) for name, values in features.items()},
        }
        yield pa.table(columns)


def _inputs(manifest: Manifest, validation: Validation, rows: Indices) -> tuple[Tensors, Columns]:
    """What the model takes, and its features: as images, and as the tensors that a client may send instead."""
    preprocessing = manifest.preprocessing
    inputs: Tensors = {name: array[rows] for name, array in validation.inputs.items()}
    features: Columns = {}
    if preprocessing is not None and validation.files:
        pictures = [picture(validation.files[row], preprocessing) for row in rows]
        features = image_columns([image_features(sample(each)) for each in pictures])
        inputs = {name: np.stack([to_tensor(each, preprocessing) for each in pictures]) for name in inputs}
    elif preprocessing is not None:
        features = _pixel_columns(next(iter(inputs.values())), preprocessing)
    return inputs, {**features, **tensor_features(inputs, manifest.signature)}


def _pixel_columns(pixels: npt.NDArray[np.uint8], preprocessing: Preprocessing) -> Columns:
    if preprocessing.fit != "stretch":  # there is black around them, or something is missing
        return image_columns([None] * len(pixels))
    kept = {f"{IMAGE}brightness", *(IMAGE + colour for colour in _COLOURS if preprocessing.channels != "gray")}
    rgb = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    told = image_columns([image_features(sample_array(each)) for each in rgb])
    unknown = image_columns([None] * len(pixels))
    return {name: values if name in kept else unknown[name] for name, values in told.items()}


def _column(name: str, values: npt.NDArray[Any]) -> pa.Array:
    """NaN of an image is what nobody knows, of a tensor what was in it."""
    return pa.array(values, from_pandas=name.startswith(IMAGE))


def _embeddings(embedding: npt.NDArray[np.float16] | None, rows: int) -> pa.Array:
    kind = field_of("embedding").type
    if embedding is None:
        return pa.nulls(rows, kind)
    return pa.array([row.tobytes() for row in embedding.astype("<f2", copy=False)], kind)


def _names(classes: npt.NDArray[np.int64], labels: Sequence[str] | None) -> list[str]:
    return [str(index) if labels is None else labels[index] for index in classes.tolist()]
