"""When each schedule was last begun: `schedule.json` beside a model's drift reports, so that a restart misses none."""

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from models.monitoring import Schedule

logger = logging.getLogger("ray.serve")


class Entry(BaseModel):
    """When a run was begun last, and how many in a row have failed or were cut short.

    `whole` is when all versions were to be looked at; `left` are those of them without a report, None where none is
    known yet.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    started: AwareDatetime
    failures: int = 0
    whole: AwareDatetime | None = None
    left: tuple[int, ...] | None = None


_ENTRIES: TypeAdapter[dict[str, Entry]] = TypeAdapter(dict[str, Entry])


class DriftDiary:
    """The diary of one model; what cannot be written is remembered as long as the process lives."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "schedule.json"
        self._unwritten: dict[str, Entry] | None = None

    def entry(self, schedule: Schedule) -> Entry | None:
        """The last run of a schedule; None where there was none yet."""
        return self._read().get(_key(schedule))

    def begin(self, schedule: Schedule, now: datetime) -> tuple[int, ...] | None:
        """Note that one begins, a failure until it ends; return the versions to try again, None for all."""
        last = self.entry(schedule)
        if (
            last is None
            or not last.failures
            or last.whole is None
            or not timedelta(0) <= now - last.whole < schedule.every
        ):
            failures = last.failures if last else 0
            self._note(schedule, Entry(started=now, whole=now, failures=failures + 1))
            return None
        self._note(schedule, Entry(started=now, whole=last.whole, failures=last.failures + 1, left=last.left))
        return last.left

    def left(self, schedule: Schedule, versions: Sequence[int]) -> None:
        """Note which versions have no report yet."""
        last = self._read()[_key(schedule)]
        self._note(schedule, last.model_copy(update={"left": tuple(versions)}))

    def end(self, schedule: Schedule) -> None:
        """Note that all is done."""
        last = self._read()[_key(schedule)]
        self._note(schedule, last.model_copy(update={"failures": 0, "left": None}))

    def _note(self, schedule: Schedule, entry: Entry) -> None:
        self._write({**self._read(), _key(schedule): entry})

    def _read(self) -> dict[str, Entry]:
        if self._unwritten is not None:
            return self._unwritten
        try:
            return _ENTRIES.validate_python(json.loads(self.path.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ValidationError) as error:
            logger.error("%s cannot be read, and is begun anew: %s", self.path.name, error)
            return {}

    def _write(self, entries: dict[str, Entry]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_ENTRIES.dump_json(entries))
            os.replace(temporary, self.path)
        except OSError as error:
            logger.error("%s cannot be written: %s", self.path.name, error.strerror)
            self._unwritten = entries
        else:
            self._unwritten = None


def _key(schedule: Schedule) -> str:
    return "all" if schedule.version is None else f"v{schedule.version}"
