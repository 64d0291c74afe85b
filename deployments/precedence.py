"""Who goes first on a full machine: replicas that answer, before those that still start and whatever else runs."""

import os
from contextlib import suppress
from pathlib import Path

VARIABLE = "TILTYARD_NICENESS"
"""Niceness of a replica that can answer; without it, it stays as Ray started it. Below 0 only root may go."""


def take_precedence() -> None:
    """Give every thread of this process the niceness that is asked for; where that is not allowed it stays as it is.

    A replica calls this when it can answer. Starting takes seconds of CPU, and on two cores p99 went from 30 to 180 ms
    while a version was loaded (loadtests/RESULTS.md). Threads that run when others do not (SCHED_IDLE) stay so.
    """
    with suppress(OSError, ValueError, AttributeError):  # not set, not Linux, not allowed
        niceness = int(os.environ.get(VARIABLE, ""))
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has ended just now
                if os.sched_getscheduler(int(thread.name)) == os.SCHED_OTHER:
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), niceness)
