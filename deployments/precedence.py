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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

NICENESS_VARIABLE = "TILTYARD_NICENESS"
"""Niceness of a replica that can answer; without it, it stays as Ray started it. Below 0 only root may go."""

SLICE_VARIABLE = "TILTYARD_SLICE_MICROS"
"""After how many microseconds of CPU such a replica lets another go; whoever asks for less is woken the sooner."""

NICENESS = 10
"""Of commands that the service runs, beside its answers."""

STARTING_S = 10.0
"""About how long a process that starts makes way for all others at most: on full cores it would never be ready."""

_LOWEST = 19
"""The niceness of what makes way for good."""

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
    come_forward()
    place(_asked(NICENESS_VARIABLE), _asked(SLICE_VARIABLE))


def start_behind() -> None:
    """Let this thread, which starts a process, make way for all others until it takes precedence, or for a while.

    Linux wakes a thread on a core that is free, and counts as free where only SCHED_IDLE runs; niceness has no say in
    that. Beside imports of niceness 0 p99 went from 13 to 17 ms, beside idle ones it stayed (loadtests/RESULTS.md).
    Nothing happens where it could not come back, which takes what root may do.
    """
    if _may_come_back():
        timer = threading.Timer(STARTING_S, come_forward)  # before: a thread has the place of the one that starts it
        timer.daemon = True
        timer.start()
        _set_idle(0)


def come_forward() -> None:
    """Bring back the threads of this process that made way while it started, and those of processes that they began."""
    with suppress(AttributeError):  # not Linux
        while any([_bring_back(process) for process in _tree(Path("/proc/self"))]):
            pass  # one that was not back yet may have begun another meanwhile


def place(niceness: int | None, slice_micros: int | None) -> None:
    """Give every thread of this process, and those it starts later, a niceness and a slice; None leaves it as it is.

    Threads that run when others do not (SCHED_IDLE) stay so. Linux heeds slices from 6.12 on.
    """
    with suppress(OSError, AttributeError):  # not Linux
        for thread in _threads(Path("/proc/self")):
            with suppress(ProcessLookupError):  # it has ended just now
                if not _is_idle(thread):
                    _place_thread(thread, niceness, slice_micros)


def _asked(variable: str) -> int | None:
    with suppress(ValueError):
        return int(os.environ.get(variable, ""))
    return None


def _threads(process: Path) -> list[int]:
    return [int(directory.name) for directory in (process / "task").iterdir()]


def _tree(process: Path) -> Iterator[Path]:
    """A process, then those that it started; they are looked for when the process itself has been dealt with."""
    yield process
    with suppress(OSError):  # it has ended
        children = " ".join((process / "task" / str(thread) / "children").read_text() for thread in _threads(process))
        for child in children.split():
            yield from _tree(Path("/proc") / child)


def _bring_back(process: Path) -> bool:
    """Whether any of its threads had made way; those that did so for good have the lowest niceness, too, and stay."""
    found = False
    with suppress(OSError):  # it has ended
        for thread in _threads(process):
            with suppress(ProcessLookupError):
                if _is_idle(thread) and os.getpriority(os.PRIO_PROCESS, thread) < _LOWEST:
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                    found = True
    return found


def _is_idle(thread: int) -> bool:
    return os.sched_getscheduler(thread) == os.SCHED_IDLE


def _set_idle(identifier: int) -> None:
    os.sched_setscheduler(identifier, os.SCHED_IDLE, os.sched_param(0))  # whoever else wakes up goes first


def _may_come_back() -> bool:
    """Whether a thread that made way can undo it, and find the processes that it began; tried by one that ends."""

    def there_and_back() -> bool:
        with suppress(OSError, AttributeError):  # not allowed, not Linux
            Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
            if os.getpriority(os.PRIO_PROCESS, 0) < _LOWEST:
                _set_idle(0)
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
                return True
        return False

    with ThreadPoolExecutor(1) as one:
        return one.submit(there_and_back).result()


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
    """Let a thread, or a process that starts, run only when nobody else wants to; 0 is the thread that asks."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, identifier, _LOWEST)
        _set_idle(identifier)


def step_back() -> None:
    """Let this thread, and no other of the process, go after answers."""
    with suppress(OSError, AttributeError):  # only Linux schedules threads one by one
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def come_after_answers() -> None:
    """In a command that a replica or a task starts: go after answers, and heed Ctrl-C, which they do not."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
