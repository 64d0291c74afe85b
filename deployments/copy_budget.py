"""How much a version that only watches may take on: so many copies at a time, and a shadow so much of the time."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

DUTY_CYCLE_PER_CORE = 0.05
SAVED_S = 0.2
"""What a shadow may owe after it was idle for long: small models get copies that come close together, too."""

MAX_REST_S = 30.0
"""One that takes very long, or never answers, is tried again after so long all the same."""


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """At most `max_copies` at a time; those a shadow gets keep it busy for `duty_cycle` of the time (1: no limit).

    Even a thread that only takes what others leave costs them cache, memory bandwidth, and the other half of a core
    where two threads share one.
    """

    max_copies: int
    duty_cycle: float

    @classmethod
    def of(cls, max_copies: int, duty_cycle: float | None, cores: int) -> "CopyLimits":
        """By default the duty cycle is what a machine has cores for."""
        return cls(max_copies, min(1.0, cores * DUTY_CYCLE_PER_CORE) if duty_cycle is None else duty_cycle)


class CopyBudget:
    """What one version may take on: the generic cell rate algorithm, in seconds for which it is busy.

    Source: ITU-T I.371 (the continuous-state leaky bucket).
    """

    def __init__(self, limits: CopyLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._billed_until = self._rests_until = -math.inf
        self.on_their_way = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may go out now."""
        return self.on_their_way < self._limits.max_copies and self._rests_until <= self._clock()

    def take(self) -> None:
        """One goes out."""
        if not self.on_their_way:
            self._billed_until = self._clock()
        self.on_their_way += 1

    def give_back(self, busy_s: float) -> None:
        """It is back, and kept the version busy for so long; what was busy side by side counts once."""
        self.on_their_way -= 1
        now, begins = self._clock(), self._billed_until
        busy_s = min(busy_s, now - begins)
        self._billed_until += busy_s
        rests_until = max(self._rests_until, begins - SAVED_S) + busy_s / self._limits.duty_cycle
        self._rests_until = min(rests_until, now + MAX_REST_S)
