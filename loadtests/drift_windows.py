"""Windows of digits, drawn from what `loadtests.drift_pools` made: row by row, or in bursts of one client each."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobs.drift.frame import Frame
from loadtests.drift_names import BASE
from models.traffic import OK

BEGAN_US = 1_790_000_000_000_000
SPAN_S = 6 * 3600
CLIENTS = 50
"""That rows come from which belong to no burst."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """Rows of one kind of traffic, and which of them were made from the same digit."""

    rows: pa.Table
    alike: dict[int, Indices]

    @classmethod
    def of(cls, table: pa.Table) -> "Pool":
        """Of a pool's table."""
        base = table[BASE].to_numpy()
        by_base: dict[int, list[int]] = defaultdict(list)
        for row, each in enumerate(base.tolist()):
            by_base[each].append(row)
        return cls(table.drop_columns([BASE]), {each: np.array(rows) for each, rows in by_base.items()})

    @property
    def names(self) -> Indices:
        """Of the digit of each burst, as often as it is in the pool."""
        return np.concatenate([np.full(len(rows), each) for each, rows in self.alike.items()])

    def reference(self, count: int, dice: np.random.Generator) -> Frame:
        """Rows without an origin, as of a validation set."""
        return Frame(self.rows.take(pa.array(dice.choice(self.rows.num_rows, count, replace=False))))

    def window(self, count: int, burst: int, dice: np.random.Generator) -> Frame:
        """Rows in the order of time; bursts of clients overlap. Its labels are not known."""
        rows, clients, times = self._drawn(count, burst, dice)
        order = np.argsort(times, kind="stable")
        table = self.rows.take(pa.array(rows[order])).drop_columns(["true_label"])
        columns: dict[str, Any] = {
            "time": pa.array(times[order], pa.timestamp("us", tz="UTC")),
            "key_id": pa.array([f"client-{each}" for each in clients[order]]),
            "request_id": pa.array([f"request-{each}" for each in range(count)]),
            "status": pa.array([OK] * count),
            "weight": pa.array(np.ones(count, dtype=np.float32)),
        }
        for name, values in columns.items():
            table = table.append_column(name, values)
        return Frame(table)

    def _drawn(self, count: int, burst: int, dice: np.random.Generator) -> tuple[Indices, Indices, Indices]:
        if burst == 1:
            rows = dice.choice(self.rows.num_rows, count, replace=False)
            times = BEGAN_US + dice.integers(0, SPAN_S * 1_000_000, count)
            return rows, dice.integers(0, CLIENTS, count), times
        bursts = -(-count // burst)
        of = dice.choice(self.names, bursts)
        rows = np.concatenate([dice.choice(self.alike[int(each)], burst) for each in of])[:count]
        starts = np.repeat(dice.integers(0, SPAN_S * 1_000_000, bursts), burst)[:count]
        within = dice.integers(0, 600_000_000, count)  # a burst lasts ten minutes
        return rows, np.repeat(np.arange(bursts), burst)[:count], BEGAN_US + starts + within
