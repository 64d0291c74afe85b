"""The thread that writes what a Router kept of its traffic into the spool, a table of each kind and model at a time."""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from deployments.feedback import Truth
from deployments.settings import TrafficLogSettings
from deployments.traffic_mover import Mover
from deployments.traffic_record import RECORD_BYTES, Record
from deployments.traffic_rows import input_rows, prediction_rows
from models.traffic import FEEDBACK
from models.traffic_ledger import Account
from models.traffic_spool import SpoolWriter, Stream
from models.traffic_spooled import Spool

logger = logging.getLogger("ray.serve")

Count = Callable[[str, str, int], None]
"""Told how many records of a model (feedback: of none, "") came to a state."""

AT_ONCE = 128
"""Records that are made into rows before the event loop may have the interpreter: about a millisecond."""

MAX_FILE_ROWS = 50_000
PAUSE_S = 0.0005
CLOSE_S = 2.0
"""How long the last records are tried to be written, where the disk fails."""


@dataclass(slots=True, eq=False)
class Feedback:
    """What the classes of requests really were, and when (time.time()) that was told."""

    time: float
    labels: Sequence[Truth]
    awaited_until: float = 0.0

    @property
    def rows(self) -> int:
        """A row of the log each."""
        return len(self.labels)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        return RECORD_BYTES * len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """Rows that are still to be written, and what they settle in the buffer."""

    stream: Stream
    rows: pa.Table
    settles: int = 0
    settles_bytes: int = 0


class Flush:
    """Empties a buffer every `flush_period_s`. What the disk does not take it keeps, and tries again."""

    def __init__(
        self,
        buffer: deque[Record | Feedback],
        writer: SpoolWriter,
        settings: TrafficLogSettings,
        count: Count | None,
    ) -> None:
        self._buffer = buffer
        self._writer = writer
        self._settings = settings
        self._count = count
        self._held: list[Record | Feedback] = []
        self._pending: list[Pending] = []
        self._sequence = 0
        self._told: dict[tuple[str, str], int] = {}
        self._spool = Spool(writer.spool)
        self._spool_bytes = 0
        self._measured = -float("inf")
        self._mover = Mover(settings)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic-log", daemon=True)
        self.settled = self.settled_bytes = 0
        """Rows, and their bytes, that wait no longer, whatever became of them."""
        self.is_failing = self.is_spool_full = self.is_closed = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._mover.start()

    def close(self) -> None:
        """Write what is left, and end."""
        has_begun = self._thread.ident is not None
        if not has_begun and not self._closing.is_set():
            self._finish()
        self._closing.set()
        if has_begun:
            self._thread.join(CLOSE_S + 5)
        self._mover.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            self._flush_safely()
            self._closing.wait(max(0.01, self._settings.flush_period_s - (time.monotonic() - began)))
        self._finish()

    def _finish(self) -> None:
        self.is_closed = True
        deadline = time.monotonic() + CLOSE_S
        self._flush_safely(is_last=True)
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.1)
            self._flush_safely(is_last=True)
        for each in self._pending:
            self._writer.ledger.slot(each.stream.name).add("shutdown", each.rows.num_rows)
        self._pending = []
        self._tell()
        self._writer.close()

    def _flush_safely(self, is_last: bool = False) -> None:
        try:
            self._take(is_last)
            self._write()
            self._measure()
            self._tell()
        except Exception:  # one bad flush must not be the last
            logger.exception("the traffic log could not be flushed")

    def _take(self, is_last: bool) -> None:
        """Make rows of what was offered, but for records that wait for a comparison."""
        # By version, for another one's feature of the same name may be text where this one's is a number.
        by_version: dict[tuple[str, int], list[Record]] = defaultdict(list)
        now = time.monotonic()
        held, self._held = self._held, []
        for _ in range(len(self._buffer)):
            held.append(self._buffer.popleft())
        for each in held:
            if each.awaited_until > now and not is_last:
                self._held.append(each)
            elif isinstance(each, Feedback):
                self._make_feedback(each)
            else:
                by_version[each.variant.model, each.variant.version].append(each)
        for (model, _), records in by_version.items():
            for start in range(0, len(records), AT_ONCE):
                self._make(model, records[start : start + AT_ONCE])
                time.sleep(PAUSE_S)

    def _make(self, model: str, records: Sequence[Record]) -> None:
        """Rows of some records; where that fails of each alone, and what cannot be told is counted."""
        rows, size = sum(each.rows for each in records), sum(each.size_bytes for each in records)
        kept = [each for each in records if each.keeps_input]
        try:
            made = prediction_rows(records, self._writer.name, self._sequence)
            inputs = input_rows(kept, self._writer.name, self._sequence + rows) if kept else None
        except Exception:
            if len(records) > 1:
                for each in records:
                    self._make(model, [each])
                return
            logger.exception("a record of %s cannot be written", model)
            self._writer.ledger.slot(Stream("predictions", model).name).add("error", rows)
            if kept:
                self._writer.ledger.slot(Stream("inputs", model).name).add("error", rows)
            self._settle(rows, size)
            return
        self._sequence += rows
        self._pending.append(Pending(Stream("predictions", model), made, rows, size))
        if inputs is not None:
            self._sequence += inputs.num_rows
            self._pending.append(Pending(Stream("inputs", model), inputs))

    def _make_feedback(self, feedback: Feedback) -> None:
        times = np.full(feedback.rows, int(feedback.time * 1e6))
        columns = {
            "writer": pa.repeat(pa.scalar(self._writer.name), feedback.rows),
            "sequence": pa.array(np.arange(self._sequence, self._sequence + feedback.rows)),
            "time": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
            "day": pa.array((times // 86_400_000_000).astype(np.int32)).cast(pa.date32()),
            "request_id": pa.array([each.request_id for each in feedback.labels], pa.string()),
            "label": pa.array([each.label for each in feedback.labels], pa.string()),
            "source": pa.repeat(pa.scalar("http"), feedback.rows),
            "item": pa.nulls(feedback.rows, pa.int32()),
            "weight": pa.nulls(feedback.rows, pa.float64()),
            "model": pa.array([each.model for each in feedback.labels], pa.string()),
        }
        self._sequence += feedback.rows
        rows = pa.table([columns[field.name] for field in FEEDBACK], schema=FEEDBACK)
        self._pending.append(Pending(Stream("feedback"), rows, feedback.rows, feedback.size_bytes))

    def _write(self) -> None:
        """Write all that is pending, a file per stream and schema; what the disk refuses stays.

        Before anything is, the writer appears in the spool, so that the account of one that is killed then is found.
        """
        alike: dict[tuple[Stream, pa.Schema], list[Pending]] = defaultdict(list)
        for each in self._pending:
            alike[each.stream, each.rows.schema].append(each)
        try:
            self._writer.open()
            for pending in alike.values():
                while pending:
                    count, rows = 0, 0
                    while count < len(pending) and (not count or rows + pending[count].rows.num_rows <= MAX_FILE_ROWS):
                        rows += pending[count].rows.num_rows
                        count += 1
                    self._write_file(pending[:count])
                    pending = pending[count:]
        except OSError as error:
            if not self.is_failing:
                logger.error("the traffic log cannot be written, and is tried again: %s", error)
            self.is_failing = True
            return
        if self.is_failing:
            logger.warning("the traffic log is written again")
        self.is_failing = False

    def _write_file(self, some: Sequence[Pending]) -> None:
        """Write rows of one stream, where that fails each table alone; what cannot be is counted. Raises OSError."""
        stream = some[0].stream
        try:
            self._spool_bytes += self._writer.write(stream, pa.concat_tables([each.rows for each in some]))
        except OSError:
            raise
        except Exception:
            if len(some) > 1:
                for each in some:
                    self._write_file([each])
                return
            logger.exception("rows of %s cannot be written", stream.name)
            self._writer.ledger.slot(stream.name).add("error", some[0].rows.num_rows)
        written = set(map(id, some))
        self._pending = [each for each in self._pending if id(each) not in written]
        for each in some:
            self._settle(each.settles, each.settles_bytes)

    def _settle(self, rows: int, size_bytes: int) -> None:
        self.settled += rows
        self.settled_bytes += size_bytes

    def _measure(self) -> None:
        """Look now and then what the spool takes: others write there too, and it is emptied."""
        if time.monotonic() - self._measured > min(5.0, self._settings.append_period_s):
            self._spool_bytes = self._spool.size_bytes()
            self._measured = time.monotonic()
        is_full = self._spool_bytes > self._settings.max_spool_bytes
        if is_full and not self.is_spool_full:
            logger.error("the spool of the traffic log is full: nothing moves it on to %s", self._settings.root)
        self.is_spool_full = is_full

    def _tell(self) -> None:
        """Tell what became of records since the last time."""
        if self._count is None:
            return
        for name, slot in self._writer.ledger.streams():
            stream = Stream.named(name)
            if stream.kind != "inputs":
                for state, total in _states(slot.account()).items():
                    news = total - self._told.get((name, state), 0)
                    if news:
                        self._told[name, state] = total
                        self._count(stream.model or "", state, news)


def _states(account: Account) -> dict[str, int]:
    lost = {f"lost_{reason}": count for reason, count in account.lost.items()}
    return {"stored": account.spooled, "sampled_out": account.sampled_out, **lost}
