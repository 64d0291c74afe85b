"""How good a model's answers are, by what they should have been: each version in each role, and over time."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jobs.confusion import Answers, ClassQuality, Codes, Confused, answers, class_qualities, confusion
from jobs.estimates import Share, share
from jobs.labelled import labelled
from jobs.reliability import Calibration, calibration
from models.traffic import OK
from models.traffic_tables import TrafficTables

By = Literal["hour", "day", "week"]

ROLES = ("champion", "challenger", "shadow")

_HOUR_US = 3_600_000_000
_PERIODS_US: dict[By, tuple[int, int]] = {
    # Length, and where one begins; 1970-01-05 was a Monday.
    "hour": (_HOUR_US, 0),
    "day": (24 * _HOUR_US, 0),
    "week": (7 * 24 * _HOUR_US, 4 * 24 * _HOUR_US),
}


@dataclass(frozen=True, slots=True)
class Period:
    """The predictions from `start` (UTC) to the next one."""

    start: datetime
    labels: int
    accuracy: Share
    confidence: float | None
    ece: float | None


@dataclass(frozen=True, slots=True)
class VariantQuality:
    """One version in one role.

    `labels` of its predictions are labelled, `sampled` of them were drawn by `label-sample`. They stand for `weight` of
    the `predictions` that it made, both as estimated from the share of the traffic that is logged.
    """

    version: int
    variant: str
    predictions: float
    labels: int
    sampled: int
    weight: float
    accuracy: Share | None
    calibration: Calibration | None
    classes: tuple[ClassQuality, ...]
    confusion: tuple[Confused, ...]
    periods: tuple[Period, ...]


@dataclass(frozen=True, slots=True)
class Quality:
    """All versions and roles that predicted in [since, until)."""

    model: str
    since: datetime
    until: datetime
    by: By
    variants: tuple[VariantQuality, ...]

    @property
    def labels(self) -> int:
        """Labelled predictions in all."""
        return sum(each.labels for each in self.variants)


def quality(
    tables: TrafficTables,
    model: str,
    since: datetime,
    until: datetime,
    by: By = "day",
    show: Callable[[str], None] = lambda _: None,
) -> Quality:
    """Read the traffic and tell. Raises ModelNotFound, TrafficUnavailable."""
    tables.known(model)
    show("counting predictions")
    predicted = _predictions(tables, model, since, until)
    show("joining labels")
    rows = labelled(tables, model, since, until)
    show("counting answers")
    return Quality(model, since, until, by, quality_of(rows, predicted, by))


def quality_of(rows: pa.Table, predicted: dict[tuple[int, str], float], by: By = "day") -> tuple[VariantQuality, ...]:
    """Of a table of `jobs.labelled`; `predicted` is how many predictions each version and role made in all."""
    of = answers(rows)
    version = np.asarray(rows["version"], dtype=np.int64)
    variant = np.asarray(rows["variant"].to_pylist(), dtype=object)
    start = _starts(np.asarray(rows["time"].cast(pa.int64()), dtype=np.int64), by)
    sampled = np.asarray(rows["is_sampled"])
    keys = {*predicted, *zip(version.tolist(), variant.tolist(), strict=True)}
    made = []
    for key in sorted(keys, key=lambda each: (each[0], ROLES.index(each[1]) if each[1] in ROLES else len(ROLES))):
        keep = np.flatnonzero((version == key[0]) & (variant == key[1]))
        made.append(_variant(key, predicted.get(key, 0.0), of.where(keep), int(sampled[keep].sum()), start[keep]))
    return tuple(made)


def _variant(key: tuple[int, str], predicted: float, of: Answers, sampled: int, start: Codes) -> VariantQuality:
    return VariantQuality(
        version=key[0],
        variant=key[1],
        predictions=predicted,
        labels=len(of.truth),
        sampled=sampled,
        weight=float(of.weight.sum()),
        accuracy=share(of.is_right, of.weight),
        calibration=calibration(of),
        classes=class_qualities(of),
        confusion=confusion(of),
        periods=tuple(_period(at, of.where(start == at)) for at in np.unique(start).tolist()),
    )


def _period(start: int, of: Answers) -> Period:
    accuracy, calibrated = share(of.is_right, of.weight), calibration(of)
    assert accuracy is not None
    return Period(
        datetime.fromtimestamp(start / 1e6, UTC),
        len(of.truth),
        accuracy,
        calibrated.confidence if calibrated else None,
        calibrated.ece if calibrated else None,
    )


def _starts(time: Codes, by: By) -> Codes:
    length, first = _PERIODS_US[by]
    return (time - first) // length * length + first


def _predictions(tables: TrafficTables, model: str, since: datetime, until: datetime) -> dict[tuple[int, str], float]:
    """Answers with classes of each version and role, as estimated from what is logged of them."""
    where = (ds.field("status") == OK) & ds.field("label").is_valid()
    total: dict[tuple[int, str], float] = {}
    columns = ("version", "variant", "weight")
    for batch in tables.predictions(model).scan(columns, since, until, where):
        summed = pa.Table.from_batches([batch]).group_by(["version", "variant"]).aggregate([("weight", "sum")])
        for row in summed.to_pylist():
            key = (row["version"], row["variant"])
            total[key] = total.get(key, 0.0) + row["weight_sum"]
    return total
