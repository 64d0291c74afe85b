"""Leaves a challenger alone that fails again and again, and looks from time to time whether it has recovered."""

import time
from typing import Literal

from models.policy import Fallback

State = Literal["closed", "open", "half open"]


class Breaker:
    """One Router's circuit breaker for one challenger. Closed: it is asked; open: it is not; half open: one request."""

    def __init__(self) -> None:
        self._failures = 0
        self._opened: float | None = None
        self._is_trying = False
        self.trips = 0
        """How often it opened since a request last succeeded."""

    def state(self, fallback: Fallback) -> State:
        """What it is now."""
        if self._opened is None:
            return "closed"
        return "half open" if time.monotonic() - self._opened >= fallback.breaker_reset_s else "open"

    def lets_through(self, fallback: Fallback) -> bool:
        """Whether the challenger may be asked. Where that is to find out how it is, only one request is let through."""
        state = self.state(fallback)
        if state == "half open":
            self._is_trying = True
            self._opened = time.monotonic()  # whatever becomes of this one, the next is due as long from now
        return state != "open"

    def note(self, is_failure: bool, fallback: Fallback) -> None:
        """A request has ended."""
        was_trying, self._is_trying = self._is_trying, False
        if not is_failure:
            self._failures = self.trips = 0
            self._opened = None
            return
        self._failures += 1
        if was_trying or (self._opened is None and self._failures >= fallback.breaker_failures):
            self._opened = time.monotonic()
            self.trips += 1
