"""Waking an epoll to the microsecond: epoll itself rounds its waits up to whole milliseconds."""

import select
import signal
import socket
from contextlib import suppress


class ExactTimer:
    """The process's interval timer, whose signal writes a byte to a socket that the epoll watches."""

    def __init__(self, epoll: select.epoll) -> None:
        self._reader, writer = socket.socketpair()
        self._writer = writer
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._handler = signal.signal(signal.SIGALRM, lambda *_: None)
        self._wakeup_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        epoll.register(self._reader.fileno(), select.EPOLLIN)

    def wake_in(self, seconds: float) -> None:
        """Wake the epoll once, so many seconds from now."""
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def clear(self) -> None:
        """Take the byte away once the epoll has woken."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)

    def close(self) -> None:
        """Stop the timer and give the signal back."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(self._wakeup_fd)
        signal.signal(signal.SIGALRM, self._handler)
        self._reader.close()
        self._writer.close()
