"""How much a version that only watches may take on: so many copies at a time, and a shadow so much computing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deployments.machine import cores

DUTY_CYCLE_PER_CORE = 0.05
SAVED_S = 0.2
"""What a shadow may owe after it computed nothing for long: small models get copies that come close together, too."""


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """At most `max_copies` at a time; those a shadow gets keep it computing for `duty_cycle` of the time (1: no limit).

    Even a thread that only takes what others leave costs them cache, memory bandwidth, and the other half of a core
    where two threads share one.
    """

    max_copies: int
    duty_cycle: float

    @classmethod
    def of(cls, max_copies: int, duty_cycle: float | None) -> "CopyLimits":
        """By default the duty cycle is what this machine has cores for."""
        return cls(max_copies, min(1.0, cores() * DUTY_CYCLE_PER_CORE) if duty_cycle is None else duty_cycle)


class CopyBudget:
    """What one version may take on: the generic cell rate algorithm, in seconds of computing.

    Source: ITU-T I.371 (the continuous-state leaky bucket).
    """

    def __init__(self, limits: CopyLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._on_their_way = 0
        self._returned = self._rests_until = -float("inf")

    @property
    def has_room(self) -> bool:
        """Whether one more may go out now."""
        return self._on_their_way < self._limits.max_copies and self._rests_until <= self._clock()

    def take(self) -> Callable[[float], None]:
        """One goes out. Returns what to call when it is back, with the seconds for which it was computed."""
        self._on_their_way += 1
        return partial(self._give_back, self._clock())

    def _give_back(self, taken: float, computed_s: float) -> None:
        """What was computed side by side counts once: no copy for longer than since the last one came back."""
        self._on_their_way -= 1
        since, now = max(taken, self._returned), self._clock()
        self._returned = now
        busy_s = min(computed_s, now - since)
        self._rests_until = max(self._rests_until, since - SAVED_S) + busy_s / self._limits.duty_cycle
