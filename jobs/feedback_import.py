"""What requests' classes really were, brought from a file into the feedback table."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs.cells import read_file
from jobs.feedback_file import Label, read_labels
from jobs.labelled import gathered
from models.traffic import FEEDBACK, day_of
from models.traffic_tables import TrafficTables

SOURCE = "import"

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file.

    Of its `requests`, `unknown` ones have no logged prediction: not yet, no longer, or because only a share of the
    traffic is logged. Their labels are kept and count once there is one. `unlabelled` rows of a sample have no label
    yet. `repeated`: the same file was imported before, and nothing was done.
    """

    file: str
    labels: int
    requests: int
    unknown: int
    unlabelled: int
    repeated: bool


def import_labels(tables: TrafficTables, path: Path, now: datetime, again: bool, show: Show) -> Imported:
    """Append a file's labels in one transaction; a file that was imported before, byte by byte, is not, unless `again`.

    Raises InvalidRequest, TrafficUnavailable, Busy.
    """
    show("reading")
    content = read_file(path)
    labels, unlabelled = read_labels(content, path.name, now)
    writer = f"{SOURCE}-{hashlib.sha256(content).hexdigest()[:24]}"
    if again:
        writer += f"-{now:%Y%m%dT%H%M%S%fZ}"
    feedback = tables.feedback()
    repeated = feedback.appended(writer) is not None
    if labels and not repeated:
        show(f"appending {len(labels):,} labels")
        feedback.append(_table(labels, writer, now), transaction=(writer, 1))
    show("looking for their requests")
    ids = pc.unique(pa.array([each.request_id for each in labels], pa.string()))
    unknown = len(ids) - _known(tables, labels, ids)
    return Imported(path.name, len(labels), len(ids), unknown, unlabelled, repeated)


def _table(labels: Sequence[Label], writer: str, now: datetime) -> pa.Table:
    times = [each.time or now for each in labels]
    columns = {
        "writer": [writer] * len(labels),
        "sequence": range(len(labels)),
        "time": times,
        "day": [day_of(time) for time in times],
        "request_id": [each.request_id for each in labels],
        "label": [each.label for each in labels],
        "source": [SOURCE] * len(labels),
        "item": [each.item for each in labels],
        "weight": [each.weight for each in labels],
        "model": [each.model for each in labels],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in FEEDBACK], schema=FEEDBACK)


def _known(tables: TrafficTables, labels: Sequence[Label], ids: pa.Array) -> int:
    """How many of the request ids were predicted by a model that they are labelled for."""
    found = pa.array([False] * len(ids), pa.bool_())
    for model in tables.models():
        named = pa.array([each.request_id for each in labels if each.model in (None, model)], pa.string())
        here = pc.is_in(ids, value_set=named)
        for rows in gathered(tables.predictions(model).scan(["request_id"]), len(ids)):
            predicted = pc.is_in(ids, value_set=rows["request_id"].combine_chunks())
            found = pc.or_(found, pc.and_(here, predicted))
            if pc.all(found).as_py():
                return len(ids)
    return int(pc.sum(found).as_py() or 0)
