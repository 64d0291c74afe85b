"""What is on file about a model's incidents: `incidents.jsonl`, one JSON object a line, only ever appended to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from jobs.incident_lines import LINE, Line
from models.append_only import append_lines, read_lines
from models.locking import locked

INCIDENTS = "incidents.jsonl"


class IncidentFile:
    """The file of one model; from it alone the state is read, so a restart repeats nothing."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / INCIDENTS

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else decides about the model. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            yield

    def append(self, *lines: Line) -> None:
        """Write lines to disk; only `alone`. Raises OSError."""
        append_lines(self.path, (line.model_dump_json() for line in lines))

    def lines(self) -> list[Line]:
        """All that were written whole, oldest first. Raises OSError."""
        return list(self._read())

    def _read(self) -> Iterator[Line]:
        for line in read_lines(self.path):
            try:
                yield LINE.validate_json(line)
            except ValidationError:  # torn by a crash, or of a later release
                continue
