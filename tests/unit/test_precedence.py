"""In a process of its own each time: what is given up cannot be had back."""

import ctypes
import os
import platform
import signal
import subprocess
import sys

import pytest

from deployments.precedence import NICENESS, come_after_answers, give_way

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}.get(platform.machine()) if sys.platform == "linux" else None

PROGRAM = """
import os, threading
from deployments.precedence import give_way, take_precedence
release, begun = threading.Event(), threading.Event()
def idle():
    give_way(threading.get_native_id())
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
    assert niceness(asked) == [here, here, 19]


def test_all_threads_but_idle_ones_follow() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness(str(min(19, here + 3))) == [min(19, here + 3)] * 2 + [19]


def test_what_is_not_allowed_is_left() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert niceness("-10") in ([-10, -10, 19], [here, here, 19])


STARTING = """
import importlib, os, subprocess, sys, threading, time
from deployments import precedence
from jobs.serve import FAST_INGRESS
precedence.STARTING_S = float(sys.argv[1])
importlib.import_module(FAST_INGRESS["RAY_preload_python_modules"])
begun, release = threading.Event(), threading.Event()
def copies():
    precedence.give_way(threading.get_native_id())
    begun.set()
    release.wait()
for_good = threading.Thread(target=copies)
later = threading.Thread(target=release.wait)
for_good.start(), later.start(), begun.wait()
child = subprocess.Popen(["sleep", "60"])
threads = threading.get_native_id(), later.native_id, child.pid, for_good.native_id
def seen():
    return [os.sched_getscheduler(thread) == os.SCHED_IDLE for thread in threads]
print(*seen(), end=" ")
if sys.argv[2] == "ready":
    precedence.take_precedence()
else:
    until = time.monotonic() + 20
    while sum(seen()) > 1 and time.monotonic() < until:
        time.sleep(0.1)
print(*seen())
child.kill(), release.set()
"""
BACK = "import os; os.sched_setscheduler(0, os.SCHED_{}, os.sched_param(0))"


def may_come_back() -> bool:
    there_and_back = f"{BACK.format('IDLE')}; {BACK.format('OTHER')}"
    return subprocess.run([sys.executable, "-c", there_and_back], capture_output=True).returncode == 0


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="not Linux")
@pytest.mark.parametrize(("longest_s", "end"), [("60", "ready"), ("2", "late")])
def test_what_starts_makes_way_until_it_is_ready_or_it_took_too_long(longest_s: str, end: str) -> None:
    program = [sys.executable, "-c", STARTING, longest_s, end]
    words = subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()
    seen = [word == "True" for word in words]
    assert seen == [may_come_back()] * 3 + [True] + [False, False, False, True]


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="not Linux")
def test_what_has_the_lowest_niceness_already_does_not_make_way() -> None:
    program = [sys.executable, "-c", "import deployments.starting, os; print(os.sched_getscheduler(0))"]
    done = subprocess.run(["nice", "-n", "19", *program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == os.SCHED_OTHER


def test_who_gives_way_runs_when_nobody_else_wants_to() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    give_way(child.pid)
    seen = os.sched_getscheduler(child.pid), os.getpriority(os.PRIO_PROCESS, child.pid)
    child.communicate(b"\n")
    assert seen == (os.SCHED_IDLE, 19)


@pytest.mark.parametrize("above", [0, 5])
def test_commands_come_after_answers_and_heed_interrupts(above: int) -> None:
    ask = "import os, signal; print(os.getpriority(os.PRIO_PROCESS, 0), signal.getsignal(signal.SIGINT).__name__)"

    def start() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS + above)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        come_after_answers()

    done = subprocess.run([sys.executable, "-c", ask], preexec_fn=start, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(NICENESS + above), "default_int_handler"]


SLICES = """
import ctypes, struct, threading
from deployments.precedence import take_precedence
def runtime(thread):
    attributes = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall(NUMBER, thread, attributes, 56, 0) == 0
    return struct.unpack_from("IIQiIQ", attributes.raw)[5]
release = threading.Event()
before = threading.Thread(target=release.wait)
before.start()
take_precedence()
after = threading.Thread(target=release.wait)
after.start()
print(*[runtime(thread) for thread in (threading.get_native_id(), before.native_id, after.native_id)])
release.set()
"""


@pytest.mark.skipif(not SCHED_GETATTR, reason="not Linux on x86_64 or aarch64")
@pytest.mark.parametrize(("asked", "expected"), [("100", 100_000), ("", None), ("soon", None)])
def test_all_threads_get_the_slice_and_so_do_later_ones(asked: str, expected: int | None) -> None:
    environment = {**os.environ, "TILTYARD_SLICE_MICROS": asked}
    program = SLICES.replace("NUMBER", str(SCHED_GETATTR))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    slices = {int(word) for word in done.stdout.split()}
    if slices == {0}:
        pytest.skip("this Linux does not tell of slices; it is older than 6.12")
    assert slices == {expected or slice_of_others()}


def slice_of_others() -> int:
    """What Linux gives whoever asks for nothing."""
    attributes = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall(SCHED_GETATTR, 0, attributes, 56, 0) == 0
    return int.from_bytes(attributes.raw[24:32], sys.byteorder)
