"""Versions that appear in the store while the service runs: found when they are whole, tried once as they are."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from models.store import Store

SETTLED_S = 3.0
"""A directory whose files have not changed for so long is taken for whole.

Who publishes with `tiltyard publish` or renames a finished copy into its place is whole at once; this is for those who
copy into the place itself. What is not whole after all does not load, and so changes nothing.
"""

Fingerprint = tuple[tuple[str, int, int], ...]

WasHere = Callable[[str, int], bool]
"""Whether a version of a model was served before, and somebody took it out."""


@dataclass(slots=True)
class Candidate:
    """A version that is not served: what it looks like, since when (time.monotonic()), and whether it is tried.

    `has_changed` says whether its files changed since it was seen first: who was taken out comes back only then.
    """

    fingerprint: Fingerprint
    since: float
    has_changed: bool
    is_tried: bool = False


class Watch:
    """Remembers what it saw in the store, and tells which versions are new and whole."""

    def __init__(self, store: Store, settled_s: float | None = None) -> None:
        self._store = store
        self._settled_s = SETTLED_S if settled_s is None else settled_s
        self._candidates: dict[tuple[str, int], Candidate] = {}

    def newcomers(
        self,
        served: Collection[tuple[str, int]],
        any_number: Collection[str] = (),
        was_here: WasHere = lambda *_: False,
    ) -> list[tuple[str, int]]:
        """Versions, newer than any served one of their model, that are whole and were not given before as they are.

        Of the models in `any_number`, older ones too. Other models that are not served at all are left alone: who has
        no champion needs no challenger.
        """
        newest = dict.fromkeys(any_number, 0)
        for model, version in served:
            if model not in any_number:
                newest[model] = max(version, newest.get(model, 0))
        found = [
            (model, version)
            for model, latest in sorted(newest.items())
            for version in self._store.versions(model)
            if version > latest and (model, version) not in served
        ]
        self._candidates = {key: each for key, each in self._candidates.items() if key in found}
        return [key for key in found if self._is_ready(key, was_here)]

    def again(self, model: str, version: int) -> None:
        """Give a version once more: it was not its fault that it could not be tried."""
        if (model, version) in self._candidates:
            self._candidates[model, version].is_tried = False

    def _is_ready(self, key: tuple[str, int], was_here: WasHere) -> bool:
        now = time.monotonic()
        fingerprint = fingerprint_of(self._store.directory(*key))
        candidate = self._candidates.get(key)
        if candidate is None or candidate.fingerprint != fingerprint:
            self._candidates[key] = Candidate(fingerprint, now, has_changed=candidate is not None)
            return False
        if candidate.is_tried or now - candidate.since < self._settled_s:
            return False
        if not candidate.has_changed and was_here(*key):
            return False
        candidate.is_tried = True
        return True


def fingerprint_of(directory: Path) -> Fingerprint:
    """Names, sizes and times of the files of a directory."""
    states = []
    for path in sorted(directory.rglob("*")):
        try:
            status = path.stat()
        except OSError:  # it is being replaced
            continue
        states.append((str(path.relative_to(directory)), status.st_size, status.st_mtime_ns))
    return tuple(states)
