"""The replicas of a deployment, known by their replies: how much may be in flight is what they have room for."""

import time

from deployments.messages import Capacity

FORGOTTEN_S = 10.0
"""A replica that has answered nothing for so long is not counted."""


class Fleet:
    """Counts the replicas that answered lately.

    Ray Serve starts and stops replicas as it sees fit, and sends a call to the least busy. So a new replica shows
    itself with its first reply; one that is gone, or idle because nothing comes, is forgotten until it answers again.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, Capacity]] = {}

    def note(self, capacity: Capacity) -> None:
        """A replica has answered."""
        now = time.monotonic()
        self._seen[capacity.replica] = now, capacity
        if len(self._seen) > 1:
            self._seen = {name: (at, c) for name, (at, c) in self._seen.items() if now - at < FORGOTTEN_S}

    @property
    def calls(self) -> int:
        """Calls that keep every replica busy: what it works on, and what it takes next. At least one."""
        return sum(capacity.calls for _, capacity in self._seen.values()) or 1

    @property
    def decodes(self) -> bool:
        """Whether each of them takes encoded images."""
        return bool(self._seen) and all(capacity.decodes for _, capacity in self._seen.values())

    @property
    def max_rows(self) -> int:
        """Rows that any of them takes in one batch."""
        return min((capacity.max_rows for _, capacity in self._seen.values()), default=1)

    @property
    def max_waiting_rows(self) -> int:
        """Rows that may wait for all of them together."""
        return sum(capacity.max_waiting_rows for _, capacity in self._seen.values())
