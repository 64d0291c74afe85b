"""Waking an epoll to the microsecond: epoll itself rounds its waits up to whole milliseconds."""

import ctypes
import os
import select
import time
from contextlib import suppress

_LIBC = ctypes.CDLL(None, use_errno=True)


class _TimerSetting(ctypes.Structure):
    """`struct itimerspec` of timerfd_settime(2)."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class ExactTimer:
    """A timer of the kernel's that the epoll watches as a file; it takes no signal of the process (Linux's timerfd)."""

    def __init__(self, epoll: select.epoll) -> None:
        self._file = _checked(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        epoll.register(self._file, select.EPOLLIN)

    def wake_in(self, seconds: float) -> None:
        """Wake the epoll once, so many seconds from now."""
        whole, nanoseconds = divmod(max(round(seconds * 1e9), 1), 1_000_000_000)
        setting = _TimerSetting(first_s=whole, first_ns=nanoseconds)
        _checked(_LIBC.timerfd_settime(self._file, 0, ctypes.byref(setting), None))

    def clear(self) -> None:
        """Rest until the next call of `wake_in`, once the epoll has woken."""
        with suppress(BlockingIOError):
            os.read(self._file, 8)

    def close(self) -> None:
        """Stop the timer."""
        os.close(self._file)


def _checked(result: int) -> int:
    """What a function of the C library returned. Raises OSError where it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
