"""Weight changes and whole swaps of the champion under a steady load; does anybody notice? `make swaps`.

The load is a share of what the service answers at most (measured first, in a closed loop of eight clients). Then, one
span of time after the other: nothing changes; the weights change again and again; the champion is swapped again and
again (challenge, promote, retire the former one). Requests carry a user, so it shows too whether users keep their
variant while weights stay, and how many change when they move.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobs.rollout import plan_promote, plan_weights
from loadtests.digit_stream import Reply, Stream
from loadtests.live_champion import CHAMPION, MODEL, LiveChampion, live_champion
from loadtests.open_loop import percentile
from loadtests.operators import AUTHOR, Operator
from loadtests.spoiled_models import is_as_good, publish_spoilt

USERS = 2000
CLIENTS = 8
SETTLED_S = 1.0
"""After a change is true, Routers have half a second to hear of it; requests due before that count for neither side."""


@dataclass(frozen=True, slots=True)
class Span:
    """What was seen between two moments, while `changes` changes were made."""

    name: str
    changes: int
    seconds: float
    replies: Sequence[Reply]

    def row(self) -> str:
        """One row of the table."""
        milliseconds = [reply.milliseconds for reply in self.replies]
        failed = sum(reply.status != 200 for reply in self.replies)
        return (
            f"| {self.name} | {self.changes} | {self.seconds:.0f} | {len(self.replies)} | {failed} |"
            f" {percentile(milliseconds, 50):.0f} | {percentile(milliseconds, 99):.0f} |"
            f" {max(milliseconds, default=0):.0f} |"
        )


def capacity(made: LiveChampion, seconds: float = 10.0) -> float:
    """Requests a second that a closed loop gets answered: a stream that is far too fast for its clients."""
    flood = Stream(made.serving.address, made.stream.digits, 5000, clients=CLIENTS, drains=False)
    began = time.monotonic()
    with flood.flowing():
        time.sleep(seconds)
        answered = sum(reply.status == 200 for reply in flood.replies)
        elapsed = time.monotonic() - began
    return answered / elapsed


def span(made: LiveChampion, name: str, changes: int, change: Callable[[int], None], pause_s: float = 0.0) -> Span:
    """Make so many changes, one after the other."""
    began, before = time.monotonic(), len(made.stream.replies)
    for number in range(changes):
        change(number)
        time.sleep(pause_s)
        if (number + 1) % 10 == 0:
            print(f"{name}: {number + 1} of {changes}, {len(made.stream.failures())} requests failed so far")
    return Span(name, changes, time.monotonic() - began, made.stream.replies[before:])


def weigh(operator: Operator, version: int, share: float) -> None:
    """Set a weight."""
    operator.do(plan_weights, {version: share}, AUTHOR)


def swap(versions: Sequence[int], operator: Operator) -> Callable[[int], None]:
    """Challenge, promote, retire the former champion, one version after the other."""
    champion = CHAMPION

    def change(number: int) -> None:
        nonlocal champion
        version = versions[number]
        operator.challenge(version, 0.2)
        operator.do(plan_promote, version, AUTHOR)
        operator.retire(champion)
        champion = version

    return change


def realised(made: LiveChampion, version: int, share: float, seconds: float) -> str:
    """Whether a share is what came of it, within three standard deviations of independent draws per user."""
    time.sleep(SETTLED_S)
    before = len(made.stream.replies)
    time.sleep(seconds)
    replies = [reply for reply in made.stream.replies[before:] if reply.status == 200]
    users = {reply.user: reply.version for reply in replies}
    got = sum(each == version for each in users.values()) / len(users)
    deviation = (share * (1 - share) / len(users)) ** 0.5
    flips = sum(reply.version != users[reply.user] for reply in replies)
    return f"| {share:g} | {got:.4f} | {abs(got - share) / deviation:.1f} | {len(users)} | {len(replies)} | {flips} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Weight changes and swaps under load: does anybody notice?")
    parser.add_argument("--weights", type=int, default=100, help="number of weight changes")
    parser.add_argument("--swaps", type=int, default=5, help="number of whole swaps")
    parser.add_argument("--load", type=float, default=0.6, help="share of the capacity that is offered")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds without a change, before and after")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    random.seed(0)
    sticky = {"by": "header", "name": "x-user", "salt": "swaps"}
    with live_champion(60.0, options.port, {"sticky": sticky}) as made:
        origin = made.store.manifest(MODEL, CHAMPION)
        assert origin is not None
        version, *swapped_in = (publish_spoilt(made.store, origin, is_as_good) for _ in range(1 + options.swaps))
        most = capacity(made)
        rate = options.load * most
        print(f"capacity {most:.0f} requests/s, offered {rate:.0f}")
        stream = Stream(made.serving.address, made.stream.digits, rate, users=USERS, clients=32)
        made = replace(made, stream=stream)
        operator = made.operator
        with stream.flowing():
            operator.challenge(version, 0.1)
            time.sleep(10)
            shares = [random.choice((0.05, 0.1, 0.2, 0.3, 0.5)) for _ in range(options.weights)]
            spans = [span(made, "no changes", 1, lambda _: time.sleep(options.quiet))]
            spans.append(
                span(made, "weights", options.weights, lambda number: weigh(operator, version, shares[number]))
            )
            realisations = []
            for share in (0.1, 0.2, 0.5):
                weigh(operator, version, share)
                realisations.append(realised(made, version, share, 3 * USERS / rate))
            moved = moves(made, version, operator)
            operator.retire(version)
            time.sleep(5)
            spans.append(span(made, "no changes", 1, lambda _: time.sleep(options.quiet)))
            spans.append(span(made, "swaps", options.swaps, swap(swapped_in, operator)))
    print(f"\n{options.load:g} of a capacity of {most:.0f} requests/s: {rate:.0f}/s\n")
    print(
        "| span | changes | s | requests | failed | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(each.row() for each in spans))
    print("\n| declared share | realised | standard deviations | users | requests | changed variant |")
    print("|---|---|---|---|---|---|")
    print("\n".join(realisations))
    print(f"\nFrom a share of 0.1 to 0.2: {moved}")
    failed = len(stream.failures())
    print(f"{len(stream.replies)} requests in all, {failed} of them not answered 200.")
    if failed:
        raise SystemExit(1)


def moves(made: LiveChampion, version: int, operator: Operator) -> str:
    """Who changes when a share grows from 0.1 to 0.2."""
    variants = []
    for share in (0.1, 0.2):
        weigh(operator, version, share)
        time.sleep(SETTLED_S)
        before = len(made.stream.replies)
        time.sleep(1.5 * USERS / made.stream.rate)
        variants.append({reply.user: reply.version for reply in made.stream.replies[before:] if reply.status == 200})
    both = variants[0].keys() & variants[1].keys()
    joined = sum(variants[0][user] != version == variants[1][user] for user in both)
    left = sum(variants[0][user] == version != variants[1][user] for user in both)
    return f"{joined} of {len(both)} users moved to the challenger ({joined / len(both):.3f}), {left} away from it."


if __name__ == "__main__":
    main()
