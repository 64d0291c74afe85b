"""Referee, Router and controller killed in the middle of a ramp, then everything restarted: `make rollout-chaos`.

Two Routers, a steady stream, a challenger on its way up. What the history said stays said, the ramp goes on where it
stood, and a restarted service begins where the old one ended. A table says what clients saw around each kill.
"""

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from jobs.serve import Serving
from jobs.service import get_json
from loadtests.live_champion import CHAMPION, MODEL, LiveChampion, live_champion, served
from loadtests.spoiled_models import is_as_good, publish_spoilt
from models.rollout import Event, History

POLICY = {
    "ramp": {"steps": [0.1, 0.2, 0.3, 0.4], "min_seconds": 15, "min_requests": 20},
    "guard": {"max_error_rate_loss": 0.2, "max_p99_ratio": None, "max_confidence_shift": 0.5, "max_accuracy_loss": 0.2},
}
WEIGHT = 0.5
AROUND_S = 12.0
RAMP_WITHIN_S = 240.0


def share_of(made: LiveChampion, version: int) -> float:
    """The challenger's share as the Routers obey it; 0 while nobody says."""
    status, body = get_json(f"{made.serving.address}/models/{MODEL}")
    if status != 200:
        return 0.0
    return float(next(each["share"] for each in body["versions"] if each["version"] == version))


def wait_for_share(made: LiveChampion, version: int, share: float) -> float:
    """Wait until the ramp is there. Raises SystemExit."""
    deadline = time.monotonic() + RAMP_WITHIN_S
    while (now := share_of(made, version)) < share - 1e-9:
        if time.monotonic() > deadline:
            raise SystemExit(f"the ramp stands at {now:g} and does not reach {share:g}")
        time.sleep(0.5)
    return now


def kill(made: LiveChampion, version: int, what: str, pid: int) -> str:
    """Kill a process; one row of the table. Raises SystemExit where the history lost anything."""
    said = History(made.store, MODEL).events()
    before, stood = len(made.stream.replies), share_of(made, version)
    os.kill(pid, signal.SIGKILL)
    time.sleep(AROUND_S)
    check_kept(said, History(made.store, MODEL).events())
    replies = made.stream.replies[before:]
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(Counter(r.status for r in replies).items()))
    slowest = max(reply.milliseconds for reply in replies)
    return f"| {what} | {stood:g} | {share_of(made, version):g} | {statuses} | {slowest:.0f} |"


def check_kept(before: list[Event], after: list[Event]) -> None:
    """Raise SystemExit where the history is not what it was, with more at its end."""
    if after[: len(before)] != before:
        raise SystemExit("the history has changed")


def controller_of(serving: Serving) -> int:
    """Process id of Ray Serve's controller, by its title."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (directory / "cmdline").read_bytes().startswith(b"ray::ServeController"):
                return int(directory.name)
        except OSError:
            continue
    raise SystemExit("no controller is to be found")


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill what decides in the middle of a ramp.")
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    rows = []
    with live_champion(options.rate, options.port, POLICY, routers=2) as made:
        origin = made.store.manifest(MODEL, CHAMPION)
        assert origin is not None
        version = publish_spoilt(made.store, origin, is_as_good)
        made.stream.gives_feedback = False  # clients would wait for the referee
        with made.stream.flowing():
            made.operator.challenge(version, WEIGHT)
            victims: list[tuple[str, Callable[[], int]]] = [
                ("Referee", lambda: next(iter(made.service.replicas("gateway", "Referee").values()))),
                ("one of two Routers", lambda: next(iter(made.service.replicas("gateway", "Router").values()))),
                ("controller", lambda: controller_of(made.serving)),
            ]
            for share, (what, pid_of) in zip((0.2, 0.3, 0.4), victims, strict=True):
                wait_for_share(made, version, share)
                rows.append(kill(made, version, what, pid_of()))
                print(rows[-1])
            wait_for_share(made, version, WEIGHT)
        said = History(made.store, MODEL).events()
        made.serving.stop()
        with served(made.path):
            time.sleep(3)
            check_kept(said, History(made.store, MODEL).events())
            rows.append(f"| everything, restarted | {WEIGHT:g} | {share_of(made, version):g} | | |")
    print("\n| killed | share before | share after | answers | slowest ms |\n|---|---|---|---|---|")
    print("\n".join(rows))
    print("\nThe history: " + ", ".join(f"{event.action} {event.share:g}" for event in said if event.share is not None))


if __name__ == "__main__":
    main()
