"""The Router's side of the traffic log: what was asked and answered, on its way to disk, every record accounted for.

The event loop hands over references and counts; a thread makes tables of them and writes these into the spool
(models/traffic_spool.py), from where a process of its own moves them on (deployments/traffic_mover.py). Nothing here
delays an answer or fails one: what cannot be kept is counted (models/traffic_ledger.py), and said once.
"""

import asyncio
import hashlib
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from deployments.agreement import Agreement
from deployments.feedback import Truth
from deployments.messages import Answer
from deployments.question import Asked, Entry, Served, Variant
from deployments.settings import TrafficLogSettings
from deployments.traffic_flush import Count, Feedback, Flush
from deployments.traffic_record import Record, record
from models.errors import UNEXPECTED, DeadlineExceeded, TiltyardError
from models.manifest import Manifest
from models.traffic_ledger import Slot
from models.traffic_spool import SpoolWriter, Stream, hashing_key

logger = logging.getLogger("ray.serve")

MAX_BUFFERED_BYTES = 256 * 1024 * 1024
"""Of inputs and outputs that wait to be written."""

COMPARISON_S = 0.25
"""How long a record waits for the champion's answer beside a challenger's; without it, it is written all the same."""

CANCELLED = "cancelled"
"""The status of a prediction whose client did not wait for it."""

FEEDBACK = Stream("feedback")


class TrafficLog:
    """Records that are offered on the event loop. `count` is told what became of records, by model and state."""

    def __init__(self, settings: TrafficLogSettings, count: Count | None = None) -> None:
        self.settings = settings
        self.writer = SpoolWriter(settings.spool_path)
        self._key = _key(settings)
        self._buffer: deque[Record | Feedback] = deque()
        self._flush = Flush(self._buffer, self.writer, settings, count)
        self._slots: dict[tuple[str, str | None], Slot] = {}
        self._offered = self._offered_bytes = 0
        self._has_failed = False
        self.key_id = lru_cache(maxsize=1024)(self._key_id)

    def start(self) -> None:
        """Begin to write."""
        self._flush.start()

    def close(self) -> None:
        """Write what is left; it takes a second or two where the disk does not."""
        self._flush.close()

    def entry(self, began: float, api_key: str | None = None) -> Entry | None:
        """Draw whether a request that `began` (monotonic) is recorded, and its input kept; None where it is not."""
        settings = self.settings
        if settings.sample < 1 and random.random() >= settings.sample:
            return None
        keeps_input = settings.inputs > 0 and random.random() < settings.inputs
        return Entry(1 / settings.sample, keeps_input, began, self._key_id_or_none(api_key))

    def note(self, asked: Asked, served: Sequence[Served], awaits_comparison: bool = False) -> list[Record]:
        """Record what came of each item; the records, which may wait for a comparison."""
        try:
            return self._note(asked, served, awaits_comparison)
        except Exception:
            self._give_up("predictions", asked.variant.model, len(served))
            return []

    def _note(self, asked: Asked, served: Sequence[Served], awaits_comparison: bool) -> list[Record]:
        model = asked.variant.model
        if asked.entry is None:
            self._slot("predictions", model).add("sampled_out", sum(map(asked.question.rows, range(len(served)))))
            return []
        now, total_ms = time.time(), asked.entry.elapsed_ms()
        records = [record(asked, item, each, now, total_ms) for item, each in enumerate(served)]
        if awaits_comparison:
            until = time.monotonic() + COMPARISON_S
            for each in records:
                each.awaited_until = until if each.variant.name == "challenger" else 0.0
        self._offer(model, records)
        return records

    def note_failure(self, asked: Asked, error: BaseException, manifest: Manifest | None) -> None:
        """Record that nobody answered any item: an error, or the client or the deadline ended it."""
        told: TiltyardError
        if isinstance(error, asyncio.CancelledError):
            told = DeadlineExceeded() if time.monotonic() >= asked.deadline - 0.01 else _Cancelled()
        else:
            told = error if isinstance(error, TiltyardError) else TiltyardError(UNEXPECTED)
        self.note(asked, [Served(asked.variant, told, manifest)] * len(asked.question))

    def note_failures(self, asked: Asked, failed: Mapping[int, TiltyardError], manifest: Manifest | None) -> None:
        """Record items that a challenger did not answer and the champion then did, whose record has the input."""
        if asked.entry is None or not failed:
            return
        try:
            now, total_ms = time.time(), asked.entry.elapsed_ms()
            asked = replace(asked, entry=replace(asked.entry, keeps_input=False))
            served = {item: Served(asked.variant, error, manifest) for item, error in failed.items()}
            self._offer(asked.variant.model, [record(asked, i, each, now, total_ms) for i, each in served.items()])
        except Exception:
            self._give_up("predictions", asked.variant.model, len(failed))

    def note_copies(
        self,
        asked: Asked,
        served: Mapping[int, Served],
        copies: Mapping[int, Served],
        agreements: Mapping[int, Sequence[Agreement]],
        milliseconds: float,
    ) -> None:
        """Record what a shadow said of some items that were `served`, and how that agrees with the champion."""
        if asked.entry is None:
            return
        try:
            now = time.time()
            records = []
            for item, each in copies.items():
                outcome = served[item].outcome
                features = outcome.features if isinstance(outcome, Answer) else None
                compared = agreements.get(item, ())
                with_whom = asked.policy.champion if compared else None
                records.append(record(asked, item, each, now, milliseconds, with_whom, compared, features))
            self._offer(asked.variant.model, records)
        except Exception:
            self._give_up("predictions", asked.variant.model, len(copies))

    def note_comparison(
        self, records: Sequence[Record], champion: Variant, agreements: Mapping[int, Sequence[Agreement]]
    ) -> None:
        """The champion was asked beside a challenger: its records have what they waited for, if it came in time."""
        for item, each in enumerate(records):
            if each.variant.name == "challenger" and (compared := agreements.get(item)):
                each.agreements = compared
                each.compared_with = champion.version
            each.awaited_until = 0.0

    def note_feedback(self, labels: Sequence[Truth]) -> None:
        """Record what the classes of requests really were."""
        try:
            feedback = Feedback(time.time(), labels)
            if self._accept(self._slot("feedback", None), feedback.rows, feedback.size_bytes):
                self._buffer.append(feedback)
        except Exception:
            self._give_up("feedback", None, len(labels))

    def _offer(self, model: str, records: Sequence[Record]) -> None:
        rows = size_bytes = kept = 0
        for each in records:
            rows += each.rows
            size_bytes += each.size_bytes
            kept += each.rows if each.keeps_input else 0
        inputs = self._slot("inputs", model) if kept else None
        if self._accept(self._slot("predictions", model), rows, size_bytes, inputs, kept):
            self._buffer.extend(records)

    def _accept(self, slot: Slot, rows: int, size_bytes: int, inputs: Slot | None = None, kept: int = 0) -> bool:
        """Count rows, and as lost where there is no room for them."""
        slot.add("accepted", rows)
        if inputs is not None:
            inputs.add("accepted", kept)
        if reason := self._reason_to_refuse(rows, size_bytes):
            slot.add(reason, rows)
            if inputs is not None:
                inputs.add(reason, kept)
            return False
        self._offered += rows
        self._offered_bytes += size_bytes
        return True

    def _reason_to_refuse(self, rows: int, size_bytes: int) -> str | None:
        if self._flush.is_closed:
            return "shutdown"
        if self._flush.is_spool_full:
            return "spool_full"
        buffered = self._offered - self._flush.settled
        buffered_bytes = self._offered_bytes - self._flush.settled_bytes
        if buffered + rows > self.settings.max_buffered_records or buffered_bytes + size_bytes > MAX_BUFFERED_BYTES:
            return "disk" if self._flush.is_failing else "buffer_full"
        return None

    def _slot(self, kind: str, model: str | None) -> Slot:
        if (kind, model) not in self._slots:
            name = kind if model is None else f"{kind}/{model}"
            self._slots[kind, model] = self.writer.ledger.slot(Stream.named(name).name)
        return self._slots[kind, model]

    def _key_id_or_none(self, api_key: str | None) -> str | None:
        try:
            return self.key_id(api_key) if api_key else None
        except Exception:
            self._say_once()
            return None

    def _key_id(self, api_key: str) -> str:
        """Name an API key without telling it: only who has the spool's key could try others."""
        return hashlib.blake2b(api_key.encode(), digest_size=6, key=self._key).hexdigest()

    def _give_up(self, kind: str, model: str | None, items: int) -> None:
        """A bug: counted, and said once."""
        self._say_once()
        try:
            slot = self._slot(kind, model)
            slot.add("accepted", items)
            slot.add("not_taken", items)
        except ValueError:  # more models than a ledger has room for
            logger.exception("the traffic log cannot count")

    def _say_once(self) -> None:
        """With the traceback, for a bug would come with every request."""
        logger.log(logging.DEBUG if self._has_failed else logging.ERROR, "the traffic log has a bug", exc_info=True)
        self._has_failed = True


class _Cancelled(TiltyardError):
    code = CANCELLED


def _key(settings: TrafficLogSettings) -> bytes:
    try:
        return hashing_key(settings.spool_path)
    except OSError:
        return secrets.token_bytes(32)
