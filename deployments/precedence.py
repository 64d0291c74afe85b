"""Who goes first on a full machine: replicas that answer, before those that still start and whatever else runs.

Linux shares a machine out between sessions first (sched_autogroup) and looks at niceness within each of them: what is
started here to go after answers must not be in a session of its own.
"""

import ctypes
import os
import platform
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

NICENESS_VARIABLE = "TILTYARD_NICENESS"
"""Niceness of a replica that can answer; without it, it stays as Ray started it. Below 0 only root may go."""

SLICE_VARIABLE = "TILTYARD_SLICE_MICROS"
"""After how many microseconds of CPU such a replica lets another go; whoever asks for less is woken the sooner."""

NICENESS = 10
"""Of commands that the service runs, beside its answers."""

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(platform.machine()) if sys.platform == "linux" else None
_LIBC = ctypes.CDLL(None)


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def take_precedence() -> None:
    """Give every thread of this process the niceness and the slice that are asked for, as far as that is allowed.

    A replica calls this when it can answer. Starting takes seconds of CPU, and on two cores p99 went from 30 to 180 ms
    while a version was loaded; a request passes a dozen threads, each of which has to be woken (loadtests/RESULTS.md).
    """
    place(_asked(NICENESS_VARIABLE), _asked(SLICE_VARIABLE))


def place(niceness: int | None, slice_micros: int | None) -> None:
    """Give every thread of this process, and those it starts later, a niceness and a slice; None leaves it as it is.

    Threads that run when others do not (SCHED_IDLE) stay so. Linux heeds slices from 6.12 on.
    """
    with suppress(OSError, AttributeError):  # not Linux
        for thread in [int(directory.name) for directory in Path("/proc/self/task").iterdir()]:
            with suppress(ProcessLookupError):  # it has ended just now
                if os.sched_getscheduler(thread) == os.SCHED_OTHER:
                    _place_thread(thread, niceness, slice_micros)


def _asked(variable: str) -> int | None:
    with suppress(ValueError):
        return int(os.environ.get(variable, ""))
    return None


def _place_thread(thread: int, niceness: int | None, micros: int | None) -> None:
    if niceness is not None:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
    if micros is not None and _SCHED_SETATTR is not None:
        attributes = _Attributes(
            size=ctypes.sizeof(_Attributes),
            policy=os.SCHED_OTHER,
            nice=os.getpriority(os.PRIO_PROCESS, thread),
            runtime=micros * 1000,
        )
        _LIBC.syscall(_SCHED_SETATTR, thread, ctypes.byref(attributes), 0)


def give_way(identifier: int) -> None:
    """Let a thread, or a process that starts, run only when nobody else wants to."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, identifier, 19)
        os.sched_setscheduler(identifier, os.SCHED_IDLE, os.sched_param(0))  # whoever else wakes up goes first


def step_back() -> None:
    """Let this thread, and no other of the process, go after answers."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def come_after_answers() -> None:
    """In a command that a replica or a task starts: go after answers, and heed Ctrl-C, which they do not."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
