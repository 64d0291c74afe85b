"""Weight changes and whole swaps of the champion under a steady load; does anybody notice? `make swaps`.

In turns, because a machine's speed changes by the minute: nothing changes, and the weights change again and again, the
one first or the other; later the champion is swapped again and again (challenge, promote, retire the former one). The
load is a share of what the service answers at most (in a closed loop of eight clients), which is measured before each
turn. Requests carry a user, so it shows too whether users keep their variant while weights stay, and how many change
when they move.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobs.rollout import plan_promote, plan_weights
from loadtests import second_core
from loadtests.digit_stream import Reply, Stream
from loadtests.live_champion import CHAMPION, MODEL, SETTLED_S, LiveChampion, live_champion, offer
from loadtests.open_loop import percentile
from loadtests.operators import AUTHOR, Operator
from loadtests.spoiled_models import is_as_good, publish_spoilt

HEAD = "| span | changes | s | requests | failed | p50 ms | p99 ms | slowest ms |\n|---|---|---|---|---|---|---|---|"
USERS = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """What was seen between two moments, while `changes` changes were made."""

    name: str
    changes: int
    seconds: float
    replies: Sequence[Reply]

    @property
    def p99_ms(self) -> float:
        """Of all that was due."""
        return percentile([reply.milliseconds for reply in self.replies], 99)

    def row(self) -> str:
        """One row of the table."""
        milliseconds = [reply.milliseconds for reply in self.replies]
        failed = sum(reply.status != 200 for reply in self.replies)
        return (
            f"| {self.name} | {self.changes} | {self.seconds:.0f} | {len(self.replies)} | {failed} |"
            f" {percentile(milliseconds, 50):.0f} | {self.p99_ms:.0f} | {max(milliseconds, default=0):.0f} |"
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """A span without changes, and one with them right before or after it."""

    rate: float
    """Requests a second."""
    quiet: Span
    changing: Span

    @property
    def ratio(self) -> float:
        """How many times the p99 is what it was without changes."""
        return self.changing.p99_ms / self.quiet.p99_ms

    def __str__(self) -> str:
        return f"{self.quiet.p99_ms:.0f} -> {self.changing.p99_ms:.0f} ms ({self.rate:.0f} requests/s)"


def together(spans: Sequence[Span]) -> Span:
    """Spans as one, by the name of the first."""
    replies = [reply for each in spans for reply in each.replies]
    return Span(spans[0].name, sum(each.changes for each in spans), sum(each.seconds for each in spans), replies)


def sides(turns: Sequence[Turn]) -> tuple[Span, Span]:
    """All that was seen without changes, and all that was seen with them."""
    return together([each.quiet for each in turns]), together([each.changing for each in turns])


def table(turns: Sequence[Turn]) -> str:
    """Rows for all turns together, and what each of them came to."""
    rows = [side.row() for side in sides(turns)]
    p99s = ", ".join(str(each) for each in turns)
    median = statistics.median(each.ratio for each in turns)
    return "\n".join([HEAD, *rows]) + f"\n\np99 by turns: {p99s}; the median of the ratios is {median:.1f}.\n"


def quiet_span(made: LiveChampion, seconds: float) -> Span:
    """Change nothing for a while."""
    before = len(made.stream.replies)
    time.sleep(seconds)
    return Span("no changes", 0, seconds, made.stream.replies[before:])


def span(made: LiveChampion, name: str, numbers: Sequence[int], pause_s: float, change: Callable[[int], None]) -> Span:
    """Make the changes of these numbers, one after the other, each followed by a pause."""
    began, before = time.monotonic(), len(made.stream.replies)
    for number in numbers:
        change(number)
        time.sleep(pause_s)
        if (number + 1) % 10 == 0:
            print(f"{name}: {number + 1}, {len(made.stream.failures())} requests failed so far")
    return Span(name, len(numbers), time.monotonic() - began, made.stream.replies[before:])


def in_turns(
    made: LiveChampion, name: str, count: int, options: argparse.Namespace, change: Callable[[int], None]
) -> list[Turn]:
    """Make so many changes in turns, by turns after and before some seconds without any."""
    made_turns = []
    for turn in range(options.turns):
        offer(made, options.load)
        numbers = range(count * turn // options.turns, count * (turn + 1) // options.turns)
        if turn % 2 == 0:
            quiet = quiet_span(made, options.quiet)
            changing = span(made, name, numbers, options.pause, change)
        else:
            changing = span(made, name, numbers, options.pause, change)
            time.sleep(SETTLED_S)
            quiet = quiet_span(made, options.quiet)
        made_turns.append(Turn(made.stream.rate, quiet, changing))
        print(f"{name}, turn {turn + 1} of {options.turns}: p99 {made_turns[-1]}")
    return made_turns


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
    parser.add_argument("--turns", type=int, default=5, help="spans with changes, each beside one without")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds of a span without changes")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each change")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    random.seed(0)
    print(f"before: {second_core.line()}")
    sticky = {"by": "header", "name": "x-user", "salt": "swaps"}
    with live_champion(60.0, options.port, {"sticky": sticky}) as made:
        origin = made.store.manifest(MODEL, CHAMPION)
        assert origin is not None
        version, *swapped_in = (publish_spoilt(made.store, origin, is_as_good) for _ in range(1 + options.swaps))
        stream = Stream(made.serving.address, made.stream.digits, made.stream.rate, users=USERS, clients=32)
        made = replace(made, stream=stream)
        operator = made.operator
        with stream.flowing():
            operator.challenge(version, 0.1)
            time.sleep(10)
            shares = [random.choice((0.05, 0.1, 0.2, 0.3, 0.5)) for _ in range(options.weights)]
            weights = in_turns(
                *(made, "weights", options.weights, options), lambda number: weigh(operator, version, shares[number])
            )
            realisations = []
            for share in (0.1, 0.2, 0.5):
                weigh(operator, version, share)
                realisations.append(realised(made, version, share, 3 * USERS / stream.rate))
            moved = moves(made, version, operator)
            operator.retire(version)
            time.sleep(5)
            swaps = in_turns(made, "swaps", options.swaps, options, swap(swapped_in, operator))
    print(f"after: {second_core.line()}")
    print(f"\n{options.load:g} of what is answered at most\n")
    print(table(weights))
    print(table(swaps))
    quiet, changing = sides([*weights, *swaps])
    print(f"All changes together: p99 {quiet.p99_ms:.0f} -> {changing.p99_ms:.0f} ms.\n")
    print("| declared share | realised | standard deviations | users | requests | changed variant |")
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
