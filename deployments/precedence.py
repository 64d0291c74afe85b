"""Who goes first on a full machine: replicas that answer, before those that still start and whatever else runs.

Linux shares a machine out between sessions first (sched_autogroup) and looks at niceness within each of them: what is
started here to go after answers must not be in a session of its own.
"""

import os
import signal
from contextlib import suppress
from pathlib import Path

VARIABLE = "TILTYARD_NICENESS"
"""Niceness of a replica that can answer; without it, it stays as Ray started it. Below 0 only root may go."""

NICENESS = 10
"""Of commands that the service runs, beside its answers."""


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


def give_way(identifier: int) -> None:
    """Let a thread, or a process that starts, run only when nobody else wants to."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, identifier, 19)
        os.sched_setscheduler(identifier, os.SCHED_IDLE, os.sched_param(0))  # whoever else wakes up goes first


def come_after_answers() -> None:
    """In a command that a replica or a task starts: go after answers, and heed Ctrl-C, which they do not."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
