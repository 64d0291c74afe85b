"""The histories of all models as the referee reads and writes them: never twice from disk, and never lost in memory."""

import logging

from models.rollout import Event, History
from models.store import Store

logger = logging.getLogger("ray.serve")


class Journal:
    """Decisions count at once; one that the disk does not take is kept and written when it does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[tuple[int, int], list[Event]]] = {}
        self._unwritten: list[Event] = []

    def events(self, model: str) -> list[Event]:
        """All decisions about a model, oldest first."""
        return [*self._written(model), *(event for event in self._unwritten if event.model == model)]

    def append(self, event: Event) -> None:
        """Write a decision, now or later."""
        self._unwritten.append(event)
        self.retry()

    def retry(self) -> None:
        """Write what could not be written yet."""
        while self._unwritten:
            event = self._unwritten[0]
            try:
                History(self._store, event.model).append(event)
            except OSError as error:
                logger.error("the history of %s cannot be written: %s", event.model, error.strerror)
                return
            self._unwritten.pop(0)

    def _written(self, model: str) -> list[Event]:
        history = History(self._store, model)
        try:
            status = history.path.stat()
            state = status.st_mtime_ns, status.st_size
        except OSError:
            state = 0, 0
        known = self._read.get(model)
        if known is None or known[0] != state:
            try:
                known = self._read[model] = state, history.events()
            except OSError as error:
                logger.error("the history of %s cannot be read: %s", model, error.strerror)
                return known[1] if known else []
        return known[1]
