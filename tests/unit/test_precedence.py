"""In a process of its own each time: what is given up cannot be had back."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, threading
from deployments.precedence import take_precedence
release, begun = threading.Event(), threading.Event()
def idle():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    begun.set()
    release.wait()
threads = [threading.Thread(target=release.wait), threading.Thread(target=idle)]
for thread in threads:
    thread.start()
begun.wait()
take_precedence()
print(*[os.getpriority(os.PRIO_PROCESS, id) for id in (threading.get_native_id(), *[t.native_id for t in threads])])
release.set()
"""


def niceness(asked: str | None) -> list[int]:
    """Of the main thread, another one, and one that only runs when no other does."""
    environment = {name: value for name, value in os.environ.items() if name != "TILTYARD_NICENESS"}
    if asked is not None:
        environment["TILTYARD_NICENESS"] = asked
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("asked", [None, "", "much"])
def test_it_stays_where_nothing_is_asked_for(asked: str | None) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness(asked) == [here, here, here]


def test_all_threads_but_idle_ones_follow() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness(str(min(19, here + 3))) == [min(19, here + 3)] * 2 + [here]


def test_what_is_not_allowed_is_left() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness("-10") in ([-10, -10, here], [here, here, here])
