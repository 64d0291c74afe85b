"""What became of every record of one writer: counters in shared memory, which outlive the process that counts.

A record that was offered is either left out by sampling or accepted; an accepted one is spooled, or lost for a reason,
or still in the writer's memory. So of a writer that was killed, `accepted - spooled - lost` were lost to that, exactly.

A page of a file on a disk can keep the thread that counts waiting while the kernel writes it back (E. Jones, "The
Four Month Bug: JVM statistics cause garbage collection pauses", 2015), and where the disk is full it may kill it. So
the file is in /dev/shm where there is one, and the writer's directory in the spool has a link to it.
"""

import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

MAGIC: Final = b"tiltyard ledger 1"
SHARED_MEMORY = Path("/dev/shm")

Reason = Literal["buffer_full", "disk", "spool_full", "not_taken", "error", "shutdown", "kill"]
REASONS: Final[tuple[Reason, ...]] = ("buffer_full", "disk", "spool_full", "not_taken", "error", "shutdown")
"""Why a writer gives a record up: its memory was full; so it was because the disk failed; nothing moves what is spooled
on; a bug where it was offered, or where it was made into a row; the process ended. To these a reader adds `kill`."""

_COUNTERS: Final = ("accepted", "sampled_out", "spooled", "next_file", "next_spooled", *REASONS)
_PLACES: Final = {name: place for place, name in enumerate(_COUNTERS)}

# The file: slots of 256 bytes, the first with MAGIC. A slot: a stream's name in 128 bytes, 16 u64 in native order.
_SLOT, _NAME, _SLOTS = 256, 128, 1024


@dataclass(frozen=True, slots=True)
class Account:
    """Sums of one stream. `buffered` are still in memory; those that a dead writer had there are lost to its `kill`."""

    accepted: int = 0
    sampled_out: int = 0
    spooled: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def buffered(self) -> int:
        """Records of which nothing is known yet."""
        return self.accepted - self.spooled - sum(self.lost.values())

    def after_kill(self) -> "Account":
        """The account of a writer that is gone."""
        left = self.buffered
        return Account(
            self.accepted, self.sampled_out, self.spooled, {**self.lost, "kill": left} if left else self.lost
        )

    def __add__(self, other: "Account") -> "Account":
        reasons = [*self.lost, *(reason for reason in other.lost if reason not in self.lost)]
        return Account(
            self.accepted + other.accepted,
            self.sampled_out + other.sampled_out,
            self.spooled + other.spooled,
            {reason: self.lost.get(reason, 0) + other.lost.get(reason, 0) for reason in reasons},
        )


class Slot:
    """The counters of one stream. Each is counted by one thread only, so that none is missed."""

    def __init__(self, counters: memoryview) -> None:
        self._counters = counters

    def add(self, name: str, count: int) -> None:
        """Count some more."""
        self._counters[_PLACES[name]] += count

    def intend(self, number: int, rows: int) -> None:
        """A file of that number, which is there under its temporary name, is about to get its own.

        In this order: whoever reads the counters at any time finds that the file is there under its temporary name, or
        what is spooled once it is not.
        """
        self._counters[_PLACES["next_file"]] = number
        self._counters[_PLACES["next_spooled"]] = self._counters[_PLACES["spooled"]] + rows

    def give_up(self) -> None:
        """It does not get it; its temporary name may go now."""
        self._counters[_PLACES["next_spooled"]] = self._counters[_PLACES["spooled"]]

    def done(self) -> None:
        """It has got it."""
        self._counters[_PLACES["spooled"]] = self._counters[_PLACES["next_spooled"]]

    @property
    def next_file(self) -> int:
        """The number of the last file that was intended."""
        return self._counters[_PLACES["next_file"]]

    def account(self, is_renamed: bool = False) -> Account:
        """The sums. `is_renamed`: the file that was last intended is not there under its temporary name."""
        told = dict(zip(_COUNTERS, self._counters, strict=False))
        spooled = max(told["spooled"], told["next_spooled"]) if is_renamed else told["spooled"]
        lost: dict[str, int] = {reason: told[reason] for reason in REASONS if told[reason]}
        return Account(told["accepted"], told["sampled_out"], spooled, lost)


class Ledger:
    """The counters of one writer, by stream."""

    def __init__(self, memory: mmap.mmap, path: Path | None = None) -> None:
        self.path = path
        """Where the counters lie; None where nobody else can see them."""
        self._view = memoryview(memory)
        self._slots: dict[str, Slot] = {}

    @classmethod
    def create(cls, name: str, directory: Path) -> "Ledger":
        """A new one, in shared memory, else in a directory; in this process's memory where neither can be written."""
        for path in (SHARED_MEMORY / f"tiltyard-{name}.ledger", directory / "ledger"):
            with suppress(OSError):
                return cls(_created(path), path)
        return cls(mmap.mmap(-1, _SLOT * _SLOTS))

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """One that a writer keeps, or kept. Raises OSError or ValueError where there is none."""
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if memory[: len(MAGIC)] != MAGIC or len(memory) != _SLOT * _SLOTS:
            raise ValueError(f"{path.name} is no ledger")
        return cls(memory, path)

    def slot(self, stream: str) -> Slot:
        """The counters of a stream, which begin at 0. Raises ValueError where there are too many streams."""
        if stream not in self._slots:
            number, encoded = len(self._slots) + 1, stream.encode()
            if number >= _SLOTS or len(encoded) > _NAME:
                raise ValueError(f"no room in the ledger for {stream!r}")
            begins = number * _SLOT
            self._view[begins : begins + len(encoded)] = encoded
            self._slots[stream] = self._at(number)
        return self._slots[stream]

    def streams(self) -> Iterable[tuple[str, Slot]]:
        """All that were ever counted, read anew."""
        for number in range(1, _SLOTS):
            name = bytes(self._view[number * _SLOT : number * _SLOT + _NAME]).rstrip(b"\0")
            if not name:
                return
            yield name.decode(), self._at(number)

    def _at(self, number: int) -> Slot:
        begins = number * _SLOT + _NAME
        return Slot(self._view[begins : begins + _SLOT - _NAME].cast("Q"))


def _created(path: Path) -> mmap.mmap:
    """A new file whose pages all exist already: a full disk cannot refuse one later. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, MAGIC.ljust(_SLOT * _SLOTS, b"\0"))
        return mmap.mmap(descriptor, _SLOT * _SLOTS)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
