"""The inputs of chosen predictions, where they were kept, as files."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from jobs.labelled import newest
from models.errors import Conflict, InvalidRequest
from models.traffic_tables import TrafficTables

_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "application/x-npz": "npz"}
_KEY = ["request_id", "item"]


def with_inputs(tables: TrafficTables, model: str, rows: pa.Table) -> pa.Table:
    """Those whose input was kept."""
    kept = tables.inputs(model).read(_KEY).group_by(_KEY).aggregate([])
    return rows.join(kept, keys=_KEY, join_type="left semi")


def write_inputs(tables: TrafficTables, model: str, rows: pa.Table, directory: Path) -> list[str]:
    """Write the inputs into a new directory; their names there, `0001.png`, in the order of the rows.

    A name is empty where the input is gone. Raises Conflict where there is something already, InvalidRequest.
    """
    make_empty(directory)
    requests = rows["request_id"].combine_chunks()
    where = ds.field("request_id").isin(requests)
    found = newest(tables.inputs(model).read([*_KEY, "time", "sequence", "content_type", "content"], where=where), _KEY)
    content = {(row["request_id"], row["item"]): row for row in found.to_pylist()}
    keys = zip(requests.to_pylist(), rows["item"].to_pylist(), strict=True)
    return [_write(content.get(key), directory, number) for number, key in enumerate(keys, start=1)]


def make_empty(directory: Path) -> None:
    """Make a directory; one without files may be there. Raises Conflict, InvalidRequest."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        is_empty = not any(directory.iterdir())
    except OSError as error:
        raise InvalidRequest(f"{directory}: {error.strerror}") from None
    if not is_empty:
        raise Conflict(f"{directory} is not empty")


def _write(row: dict[str, bytes] | None, directory: Path, number: int) -> str:
    if row is None:
        return ""
    name = f"{number:04d}.{_ENDINGS.get(str(row['content_type']), 'bin')}"
    try:
        (directory / name).write_bytes(row["content"])
    except OSError as error:
        raise InvalidRequest(f"{directory / name}: {error.strerror}") from None
    return name


def names(written: Sequence[str], directory: Path) -> list[str]:
    """Paths as they are written into the sample."""
    return [str(directory / name) if name else "" for name in written]
