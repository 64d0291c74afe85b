"""A sample of predictions that nobody has told the truth of yet, as a file to be filled in."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.feedback_file import FORMULA, TRUE_LABEL
from jobs.labelled import is_labelled, newest, read_feedback
from jobs.sampling import By, chances, draw, sizes
from models.errors import NotFound
from models.traffic import OK
from models.traffic_tables import TrafficTables

COLUMNS = ("request_id", "item", "model", "time", "version", "label", "confidence", "weight", TRUE_LABEL)

_READ = ("request_id", "item", "model", "time", "sequence", "version", "status", "label", "confidence", "margin")

Keep = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to draw from: the answers of [since, until), those of one version only where it is given."""

    model: str
    count: int
    by: By
    since: datetime
    until: datetime
    version: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The drawn predictions, `COLUMNS`, in random order; there were so many unlabelled ones to draw from."""

    rows: pa.Table
    unlabelled: int


def label_sample(tables: TrafficTables, wanted: Wanted, drawable: Keep = lambda rows: rows) -> Sample:
    """Draw; the same seed draws the same from the same traffic and feedback.

    `drawable` leaves those that can be labelled (whose inputs were kept, say, which is a matter of chance): what is
    drawn stands for the others too. Raises ModelNotFound, NotFound, TrafficUnavailable.
    """
    tables.known(wanted.model)
    unlabelled = _unlabelled(tables, wanted)
    there = drawable(unlabelled)
    if not there.num_rows:
        what = "whose input was kept " if unlabelled.num_rows else ""
        raise NotFound(f"no answer of {wanted.model} since {wanted.since:%Y-%m-%d %H:%M} UTC {what}is without a label")
    there = there.sort_by([("request_id", "ascending"), ("item", "ascending")])
    margin = np.asarray(there["margin"].cast(pa.float64()), dtype=np.float64)
    chance = chances(sizes(margin, wanted.by), wanted.count)
    drawn = draw(chance, np.random.default_rng(wanted.seed))
    weight = unlabelled.num_rows / there.num_rows / chance[drawn]
    chosen = there.take(drawn).append_column("weight", pa.array(weight))
    chosen = chosen.append_column(TRUE_LABEL, pa.array([""] * len(drawn), pa.string()))
    return Sample(chosen.select(COLUMNS), unlabelled.num_rows)


def _unlabelled(tables: TrafficTables, wanted: Wanted) -> pa.Table:
    """What was answered and has no label, once for each image or row.

    A shadow's answers are copies, unless its version is asked for. What failed tells how many a request had: a label
    that does not say which one it means counts for none of many.
    """
    where = ds.field("variant") != "shadow" if wanted.version is None else ds.field("version") == wanted.version
    rows = tables.predictions(wanted.model).read(_READ, wanted.since, wanted.until, where)
    told = pa.array(is_labelled(rows, read_feedback(tables, wanted.model, wanted.since)))
    answered = pc.and_(pc.equal(rows["status"], OK), pc.is_valid(rows["label"]))
    return newest(rows.filter(pc.and_not(answered, told)), ("request_id", "item"))


def to_csv(rows: pa.Table, inputs: Sequence[str] | None = None) -> str:
    """The file to be filled in. `inputs` are names of files that hold what each prediction was made of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*rows.column_names, *(["input"] if inputs is not None else [])])
    for number, row in enumerate(rows.to_pylist()):
        cells = [_cell(value) for value in row.values()]
        writer.writerow([*cells, *([inputs[number]] if inputs is not None else [])])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return "" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
