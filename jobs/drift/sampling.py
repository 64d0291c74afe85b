"""A sample of traffic that fits into memory, however much there was: every hour keeps its part.

Rows with large weights (they stand for predictions that were not logged) are kept with as much more chance; what comes
out weighs all the same, so the statistics need no weights. Source of the keys: Efraimidis and Spirakis (2006).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_HOUR_US = 3_600_000_000
LEAST_AN_HOUR = 2000


@dataclass(slots=True)
class _Hour:
    """Rows of an hour with the largest keys, what all of its rows stand for, and the key that a new row must exceed."""

    parts: list[pa.Table] = field(default_factory=list)
    keys: list[npt.NDArray[np.float64]] = field(default_factory=list)
    weight: float = 0.0
    heaviest: float = 0.0
    bar: float = -np.inf

    @property
    def kept(self) -> int:
        return sum(len(each) for each in self.keys)


class HourlySample:
    """Takes batches with `time` and `weight`; gives about `most` rows back."""

    def __init__(self, most: int, hours: int, seed: int = 0) -> None:
        self._most = most
        self._an_hour = min(most, max(LEAST_AN_HOUR, 4 * most // max(1, hours)))
        self._dice = np.random.default_rng(seed)
        self._hours: dict[int, _Hour] = {}
        self.rows = 0
        self.predictions = 0.0

    def add(self, batch: pa.Table) -> None:
        """Look at some rows."""
        times = pc.cast(batch["time"], pa.int64()).to_numpy()
        weights = np.asarray(pc.fill_null(batch["weight"], 1.0).to_numpy(), dtype=np.float64)
        self.rows += len(times)
        self.predictions += float(weights.sum())
        keys = np.log(self._dice.random(len(times))) / np.maximum(weights, 1e-9)
        hours = times // _HOUR_US
        for number in np.unique(hours):
            self._add(self._hours.setdefault(int(number), _Hour()), batch, hours == number, keys, weights)

    def _add(
        self,
        hour: _Hour,
        batch: pa.Table,
        is_of_it: npt.NDArray[np.bool_],
        keys: npt.NDArray[np.float64],
        weights: npt.NDArray[np.float64],
    ) -> None:
        hour.weight += float(weights[is_of_it].sum())
        hour.heaviest = max(hour.heaviest, float(weights[is_of_it].max()))
        taken = np.flatnonzero(is_of_it & (keys > hour.bar))
        if not len(taken):
            return
        hour.parts.append(batch.take(pa.array(taken)))
        hour.keys.append(keys[taken])
        if hour.kept > 2 * self._an_hour:
            _prune(hour, self._an_hour)

    def table(self) -> pa.Table | None:
        """Rows in the order of time, each standing for as many predictions; None where there were none."""
        hours = list(self._of_hours())
        if not hours:
            return None
        tables, weights = zip(*hours, strict=True)
        rows = pa.concat_tables(tables, promote_options="default")
        each = np.concatenate(weights)
        order = np.argsort(pc.cast(rows["time"], pa.int64()).to_numpy(), kind="stable")
        return rows.take(pa.array(order[self._chosen(each[order])]))

    def _of_hours(self) -> Iterator[tuple[pa.Table, npt.NDArray[np.float64]]]:
        for _, hour in sorted(self._hours.items()):
            is_whole = hour.bar == -np.inf and hour.kept <= self._an_hour
            if not is_whole:
                _prune(hour, self._an_hour)
            table = pa.concat_tables(hour.parts, promote_options="default")
            own = np.asarray(pc.fill_null(table["weight"], 1.0).to_numpy(), dtype=np.float64)
            yield table, own if is_whole else np.full(hour.kept, hour.weight / hour.kept)

    def _chosen(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Evenly along the sum of the weights, so that none is chosen twice."""
        step = max(float(weights.sum()) / self._most, float(weights.max()))
        if np.ptp(weights) == 0 and len(weights) <= self._most:
            return np.arange(len(weights))
        ends = np.cumsum(weights)
        places = np.arange(self._dice.random() * step, ends[-1], step)
        return np.unique(np.minimum(np.searchsorted(ends, places, side="right"), len(weights) - 1))


def _prune(hour: _Hour, most: int) -> None:
    keys = np.concatenate(hour.keys)
    rows = pa.concat_tables(hour.parts, promote_options="default")
    if len(keys) > most:
        best = np.sort(np.argpartition(keys, -most)[-most:])
        keys, rows = keys[best], rows.take(pa.array(best))
        hour.bar = float(keys.min())
    hour.parts, hour.keys = [rows], [keys]
