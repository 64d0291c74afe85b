"""What it costs one core that another one is busy: `python -m loadtests.second_core`.

The cores of a virtual machine may be two threads of one core of its host, or share it with a neighbour, at one hour and
not at another; the guest is not told. Where that is so, whoever computes on the second one makes the first one slower
whatever the scheduler does.
"""

import os
import statistics
import subprocess
import sys
import time

LOOP = """
import time
def work():
    total = 0
    for number in range(1_000_000):
        total += number * number
    return total
took = []
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    began = time.perf_counter()
    work()
    took.append(time.perf_counter() - began)
took.sort()
print(took[len(took) // 2])
"""


def _start(core: int, seconds: float) -> subprocess.Popen[str]:
    """Compute on one core for a while; it prints the median time of a piece of work."""
    return subprocess.Popen(
        [sys.executable, "-c", LOOP.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def cost(rounds: int = 5, seconds: float = 1.0) -> float | None:
    """How many times as long work takes while a second core is busy, in turns; None where there is one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    ratios = []
    for _ in range(rounds):
        alone = float(_start(cores[0], seconds).communicate()[0])
        other = _start(cores[1], 2 * seconds)
        time.sleep(seconds / 4)
        beside = float(_start(cores[0], seconds).communicate()[0])
        other.communicate()
        ratios.append(beside / alone)
    return statistics.median(ratios)


def line() -> str:
    """What was found, for people."""
    ratio = cost()
    return "one core" if ratio is None else f"while a second core is busy, work takes {ratio:.2f} times as long"


if __name__ == "__main__":
    print(line())
