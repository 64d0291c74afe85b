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
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        epoll.register(self._reader.fileno(), select.EPOLLIN)

    def wake_in(self, seconds: float) -> None:
        """Wake the epoll once, so many seconds from now."""
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))

    def clear(self) -> None:
        """Take the byte away once the epoll has woken."""
        with suppress(BlockingIOError):
            self._reader.recv(4096)
