"""The spool as those see it who move it on, and who want to know what was lost."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from models.locking import lock, locked
from models.traffic_ledger import Account, Ledger
from models.traffic_spool import LEDGER, SUFFIX, TEMPORARY, Stream, file_name

LOSSES = "losses.jsonl"

SWEPT = ".swept"
"""Its time says when somebody looked at all tables, whether they grow or not."""

SWEEP_S = 3600.0

_WRITER = re.compile(r"\.?[0-9a-f]+-[0-9a-f]{8}")

Accounts = dict[Stream, Account]


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A file of a stream, and its number there."""

    path: Path
    number: int


class SpooledWriter:
    """What one writer left in the spool."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def name(self) -> str:
        """Of all time no other writer has it."""
        return self.directory.name.removeprefix(".")

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether its process is gone; nobody else may take the directory for one meanwhile."""
        try:
            descriptor = lock(self.directory, wait=False)
        except (BlockingIOError, FileNotFoundError):  # it lives; it has got its name just now
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def streams(self) -> list[Stream]:
        """Those that have a directory."""
        directories = sorted({path.parent for path in self.directory.rglob(f"*{SUFFIX}")})
        return [Stream.named(directory.relative_to(self.directory).as_posix()) for directory in directories]

    def files(self, stream: Stream) -> list[SpooledFile]:
        """Whole files, in the order in which they were written."""
        paths = sorted((self.directory / stream.name).glob(f"[0-9]*{SUFFIX}"))
        return [SpooledFile(path, int(path.stem)) for path in paths]

    def accounts(self, is_gone: bool) -> Accounts:
        """Its sums by stream; of a process that is gone with what was lost to that. Empty where its ledger is gone."""
        try:
            ledger = Ledger.read(self.directory / LEDGER)
        except (OSError, ValueError):
            return {}
        accounts = {}
        for name, slot in ledger.streams():
            stream = Stream.named(name)
            temporary = self.directory / stream.name / file_name(slot.next_file, TEMPORARY)
            account = slot.account(is_renamed=is_gone and not temporary.exists())
            accounts[stream] = account.after_kill() if is_gone else account
        return accounts


class Spool:
    """All of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that moves it on. Raises BlockingIOError where somebody is."""
        with locked(self.path, wait=False):
            yield

    def writers(self) -> list[SpooledWriter]:
        """Those that are there, and those that were, the oldest first; also those that never came to write."""
        if not self.path.is_dir():
            return []
        directories = [each for each in self.path.iterdir() if _WRITER.fullmatch(each.name) and each.is_dir()]
        return [SpooledWriter(each) for each in sorted(directories)]

    def size_bytes(self) -> int:
        """What all files take that are to be moved on."""
        return sum(_size_bytes(writer.directory) for writer in self.writers())

    def sweep_is_due(self) -> bool:
        """Whether nobody looked at all tables within the hour."""
        try:
            return not 0 <= time.time() - (self.path / SWEPT).stat().st_mtime < SWEEP_S
        except FileNotFoundError:
            return True

    def accounts(self) -> Accounts:
        """The sums of all writers, by stream; a ledger that is being put away meanwhile counts once."""
        told: dict[str, Accounts] = {}
        for writer in self.writers():
            with suppress(OSError), writer.held() as is_gone:
                told[writer.name] = writer.accounts(is_gone)
        told |= self._put_away()
        sums: Accounts = {}
        for accounts in told.values():
            for stream, account in accounts.items():
                sums[stream] = sums.get(stream, Account()) + account
        return sums

    def put_away(self, writer: SpooledWriter) -> None:
        """Keep the sums of a writer that is gone (its lock is held) and whose files were moved on; remove the rest."""
        streams = {stream.name: asdict(account) for stream, account in writer.accounts(is_gone=True).items()}
        line = json.dumps({"writer": writer.name, "time": time.time(), "streams": streams})
        with (self.path / LOSSES).open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            (writer.directory / LEDGER).resolve().unlink(missing_ok=True)
        shutil.rmtree(writer.directory, ignore_errors=True)

    def _put_away(self) -> dict[str, Accounts]:
        """By writer: who was put away twice, because that was interrupted, counts once."""
        try:
            lines = (self.path / LOSSES).read_text().splitlines()
        except FileNotFoundError:
            return {}
        told: dict[str, Accounts] = {}
        for line in lines:
            with suppress(ValueError, KeyError):  # the last one, where the machine stopped
                entry = json.loads(line)
                accounts = {Stream.named(name): Account(**sums) for name, sums in entry["streams"].items()}
                if accounts or entry["writer"] not in told:
                    told[entry["writer"]] = accounts
        return told


def _size_bytes(directory: str | os.PathLike[str]) -> int:
    """With os.scandir, for a Router looks every few seconds, at hundreds of files."""
    total = 0
    with suppress(OSError), os.scandir(directory) as entries:  # it was put away just now
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _size_bytes(entry.path)
            elif entry.name.endswith(SUFFIX):
                with suppress(OSError):  # it was moved on just now
                    total += entry.stat(follow_symlinks=False).st_size
    return total
