"""The spool: records that a process has written, until they are moved on into the tables (models/traffic_tables.py).

    <spool>/<writer>/                                the writer's process holds the lock of this directory
        ledger                                       its counters (models/traffic_ledger.py), mostly a link
        predictions/<model>/0000000001.parquet       files, numbered from 1 in each stream; whole once they are seen
        inputs/<model>/..., feedback/...
    <spool>/.<writer>/                               the same until it is complete, as a rule for milliseconds
    <spool>/losses.jsonl                             the sums of writers that are gone (models/traffic_spooled.py)
    <spool>/key                                      hashes names of API keys

A writer's directory appears with its lock held, so one whose lock is free has no process any more.
"""

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from models.locking import lock
from models.traffic import Kind
from models.traffic_ledger import Ledger

SUFFIX: Final = ".parquet"
TEMPORARY: Final = ".tmp"
LEDGER: Final = "ledger"
KEY: Final = "key"
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Stream:
    """Records of one kind, of one model (feedback: of all): what goes into one table."""

    kind: Kind
    model: str | None = None

    @property
    def name(self) -> str:
        """Its path in a writer's directory, and its name in the ledger: `predictions/digits`."""
        return self.kind if self.model is None else f"{self.kind}/{self.model}"

    @classmethod
    def named(cls, name: str) -> "Stream":
        """The stream of a name. Raises ValueError."""
        kind, _, model = name.partition("/")
        if kind not in get_args(Kind):
            raise ValueError(f"{name!r} is no stream")
        return cls(cast(Kind, kind), model or None)


def file_name(number: int, suffix: str = SUFFIX) -> str:
    """Name of a stream's file of that number."""
    return f"{number:010d}{suffix}"


class SpoolWriter:
    """One process's place in the spool. Its ledger counts from the first moment, can the disk be written or not.

    `open` and `write` are for one thread.
    """

    def __init__(self, spool: Path) -> None:
        self.name = f"{int(time.time()):x}-{secrets.token_hex(4)}"
        self.spool = spool
        self.directory = spool / self.name
        self._lock: int | None = None
        self._files: dict[Stream, int] = {}
        self._hidden = spool / f".{self.name}"
        with suppress(OSError):
            self._prepare()
        self.ledger = Ledger.create(self.name, self._hidden)
        with suppress(OSError):
            self._link_ledger()

    def _prepare(self) -> None:
        """Make a directory that nobody sees yet, with its lock held. Raises OSError."""
        if self._hidden.exists():
            return
        self._hidden.mkdir(parents=True)
        if self._lock is not None:  # of one that somebody removed
            os.close(self._lock)
        self._lock = lock(self._hidden)

    def open(self) -> None:
        """Appear in the spool. Raises OSError; may be tried again."""
        if self.directory.exists():
            return
        self._prepare()
        self._link_ledger()
        self._hidden.rename(self.directory)

    def _link_ledger(self) -> None:
        ledger = self._hidden / LEDGER
        if self.ledger.path is not None and not ledger.exists():
            ledger.unlink(missing_ok=True)
            ledger.symlink_to(self.ledger.path)

    def write(self, stream: Stream, rows: pa.Table) -> int:
        """Write rows to disk, whole or not at all, count them, and return how many bytes they take. Raises OSError."""
        self.open()
        number = self._files.get(stream, 0) + 1
        directory = self.directory / stream.name
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / file_name(number, TEMPORARY)
        slot = self.ledger.slot(stream.name)
        try:
            # Quick, not small: it holds a Router's interpreter up, twice a second, and lives for seconds. 65 rows take
            # 0.9 ms; with dictionaries and zstd, as the tables have them, 3.0.
            pq.write_table(rows, temporary, compression="lz4", use_dictionary=False)
            size = _flushed(temporary)
            slot.intend(number, rows.num_rows)
            temporary.rename(directory / file_name(number))
        except BaseException:
            slot.give_up()
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        slot.done()
        self._files[stream] = number
        return size

    def close(self) -> None:
        """Give the directory up: what it holds is moved on, and it goes."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if not self.directory.exists():  # nothing of it was ever to be seen
            with suppress(OSError):
                shutil.rmtree(self._hidden, ignore_errors=True)
                if self.ledger.path is not None:
                    self.ledger.path.unlink(missing_ok=True)


def hashing_key(spool: Path) -> bytes:
    """The secret that API keys are hashed with, the same for all who write here. Raises OSError.

    One that a machine's end left incomplete is replaced.
    """
    path = spool / KEY
    if (key := _whole_key(path)) is not None:
        return key
    spool.mkdir(parents=True, exist_ok=True)
    made = spool / f".{KEY}-{secrets.token_hex(4)}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(_KEY_BYTES))
        file.flush()
        os.fsync(descriptor)
    if path.exists():
        made.replace(path)
    else:
        with suppress(FileExistsError):  # somebody else was faster: theirs counts
            os.link(made, path)
        made.unlink()
    return path.read_bytes()


def _whole_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _flushed(path: Path) -> int:
    """Wait until a file is on the disk, and return its size. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
