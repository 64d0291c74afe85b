"""What tests wait for, and the real processes that they look at."""

import time
from collections.abc import Callable

from loadtests.server_process import stat_fields


def wait_for(
    condition: Callable[[], object],
    what: str = "it did not come to that",
    timeout_s: float = 30,
    period_s: float = 0.02,
) -> None:
    """Wait until something is so, and look once a period."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(period_s)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice does not."""
    try:
        return stat_fields(pid)[0] != "Z"
    except OSError:
        return False


def parent(pid: int) -> int:
    """The process that started, or forked, another. Raises OSError."""
    return int(stat_fields(pid)[1])
