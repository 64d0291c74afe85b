"""Read what the drift job looks at: the traffic of one version in a span of time, with the feedback that came."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from jobs.drift.evidence import Hour
from jobs.drift.frame import OUTPUTS, Frame
from jobs.drift.sampling import HourlySample
from jobs.drift.validity import Counts, Rate
from jobs.labelled import labelled
from models.errors import NotFound
from models.traffic import OK, is_feature
from models.traffic_tables import TrafficTable, TrafficTables

MAX_ROWS = 20_000
"""Rows that are compared; more tell nothing that matters."""

LABELLED = ("label", "confidence", "key_id")
NEEDED = ("time", "request_id", "item", "variant", "status", "key_id", "weight", *OUTPUTS, "probabilities", "embedding")
_SPANS = tuple(timedelta(hours=hours) for hours in (1, 6, 24, 7 * 24, 31 * 24, 366 * 24))
_SHADOW = "shadow"

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Span:
    """[since, until)."""

    since: datetime
    until: datetime

    @property
    def hours(self) -> int:
        """Begun."""
        return int((self.until - self.since) / timedelta(hours=1)) + 2

    @property
    def before(self) -> "Span":
        """As long, just before."""
        return Span(self.since - (self.until - self.since), self.since)


@dataclass(frozen=True, slots=True)
class WindowRows:
    """A sample of the window, and what it stands for."""

    sample: Frame
    predictions: float
    hours: tuple[Hour, ...]


def champion(table: TrafficTable, until: datetime) -> int:
    """The version that answered last as champion. Raises NotFound where none did for a year."""
    for span in _SPANS:
        where = (ds.field("variant") == "champion") & (ds.field("status") == OK)
        found = table.read(["version", "time"], until - span, until, where)
        if found.num_rows:
            latest: int = found["version"][int(np.argmax(pc.cast(found["time"], pa.int64()).to_numpy()))].as_py()
            return latest
    raise NotFound("no champion has answered yet: name the version with --version")


def is_shadow(table: TrafficTable, version: int, span: Span) -> bool:
    """Whether a version answered no client."""
    return next(table.scan(["time"], span.since, span.until, of_version(version, False)), None) is None


def of_version(version: int, is_shadow: bool) -> pc.Expression:
    """The version's answers to clients; of a shadow all that it said."""
    own = ds.field("version") == version
    return own if is_shadow else own & (ds.field("variant") != _SHADOW)


def latest(table: TrafficTable, version: int, rows: int, now: datetime) -> Span:
    """From the time of the last so many predictions, or of the first where there are fewer."""
    for reach in _SPANS:
        span = Span(now - reach, now)
        times = _times(table, span, of_version(version, is_shadow(table, version, span)))
        if len(times) >= rows or reach == _SPANS[-1]:
            if not len(times):
                return span
            first = np.partition(times, len(times) - rows)[len(times) - rows] if len(times) > rows else times.min()
            return Span(datetime.fromtimestamp(int(first) / 1e6, UTC), now)
    raise AssertionError


def _times(table: TrafficTable, span: Span, where: pc.Expression) -> npt.NDArray[np.int64]:
    found = table.read(["time"], span.since, span.until, where)
    return np.asarray(pc.cast(found["time"], pa.int64()).to_numpy())


def read_labelled(tables: TrafficTables, model: str, version: int, span: Span, is_shadow: bool) -> Frame | None:
    """Predictions of the window whose right class is known; None where there are none."""
    rows = labelled(tables, model, span.since, span.until, LABELLED)
    wanted = np.asarray(rows["version"]) == version
    if not is_shadow:
        wanted &= np.asarray(rows["variant"].to_pylist(), dtype=object) != _SHADOW
    found = rows.filter(pa.array(wanted)).sort_by("time")
    return Frame(found) if found.num_rows else None


def read_window(table: TrafficTable, where: pc.Expression, span: Span, show: Show, most: int = MAX_ROWS) -> WindowRows:
    """Go through the window once; memory does not grow with it."""
    sample, hours = HourlySample(most, span.hours), HourlyTotals()
    names = [name for name in table.schema().names if name in NEEDED or is_feature(name)]
    told = 0
    for batch in table.scan(names, span.since, span.until, where):
        rows = pa.Table.from_batches([batch])
        sample.add(rows)
        hours.add(rows)
        if sample.rows - told >= 500_000:
            told = sample.rows
            show(f"{told:,} predictions read")
    found = sample.table()
    rows = found if found is not None else table.schema(names).empty_table()
    return WindowRows(Frame(rows), sample.predictions, tuple(hours.told()))


class HourlyTotals:
    """What happened in each hour."""

    def __init__(self) -> None:
        self._sums: dict[int, list[float]] = {}

    def add(self, rows: pa.Table) -> None:
        """Count some rows."""
        hours = pc.cast(rows["time"], pa.int64()).to_numpy() // 3_600_000_000
        weights = np.asarray(pc.fill_null(rows["weight"], 1.0).to_numpy(), dtype=np.float64)
        failed = np.asarray(pc.not_equal(rows["status"], OK).to_numpy(), dtype=bool)
        confidence = np.asarray(pc.cast(rows["confidence"], pa.float64()).to_numpy(), dtype=np.float64)
        sure = np.isfinite(confidence)
        for hour in np.unique(hours):
            here = hours == hour
            sums = self._sums.setdefault(int(hour), [0.0, 0.0, 0.0, 0.0])
            parts = (weights[here], weights[here & failed], confidence[here & sure] * weights[here & sure])
            for place, values in enumerate((*parts, weights[here & sure])):
                sums[place] += float(values.sum())

    def told(self) -> Iterator[Hour]:
        """In the order of time."""
        for hour, (predictions, errors, confidence, sure) in sorted(self._sums.items()):
            start = datetime.fromtimestamp(hour * 3600, UTC)
            yield Hour(start, predictions, errors, confidence / sure if sure else None)


def count(table: TrafficTable, where: pc.Expression, span: Span) -> Counts | None:
    """Statuses of the traffic of a span; None where there was none."""
    by_status: Counter[str] = Counter()
    rows = 0
    for batch in table.scan(["status", "weight"], span.since, span.until, where):
        rows += batch.num_rows
        summed = pa.Table.from_batches([batch]).group_by("status").aggregate([("weight", "sum")])
        by_status.update(dict(zip(summed["status"].to_pylist(), summed["weight_sum"].to_pylist(), strict=True)))
    return Counts(dict(by_status), rows) if rows else None


def rate_of(table: TrafficTable, span: Span) -> Rate | None:
    """Of the model's answers to clients; None where the log does not reach back over all of the time before."""
    first = next((day.first for day in table.days()), None)
    if first is None or first > span.before.since:
        return None
    now, before = (count(table, ds.field("variant") != _SHADOW, each) for each in (span, span.before))
    return Rate(now.total if now else 0.0, before.total if before else 0.0)
