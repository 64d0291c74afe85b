"""Challengers that fail in every way meet live traffic; who notices? `make bad-challengers`.

One champion, a steady stream of digits with the truth sent after each, and one bad challenger after the other at a
share of the traffic: it is challenged as a person would, watched until the referee stops it, and retired. A table says
how long that took, how many requests it was put to, and what clients saw meanwhile.
"""

import argparse
import sys
import time
from statistics import median
from typing import Any

from jobs.service import get_json
from loadtests.live_champion import CHAMPION, MODEL, SETTLED_S, LiveChampion, live_champion, offer
from loadtests.spoiled_models import SPOILERS, is_slow, publish_spoilt
from models.rollout import History

STOPPED_WITHIN_S = 300.0
GOOD_SECONDS = 30.0


def stopped_because(made: LiveChampion, version: int) -> str | None:
    """Why the referee stopped a version; None while it has not."""
    for event in reversed(History(made.store, MODEL).events()):
        if event.version == version and event.by == "referee" and event.action == "rollback":
            return event.because
    return None


def statistics(made: LiveChampion, version: int) -> dict[str, Any]:
    """What the referee counted of a version."""
    _, body = get_json(f"{made.serving.address}/models/{MODEL}/rollout")
    found: dict[str, Any] = next(each["statistics"] for each in body["variants"] if each["version"] == version)
    return found


def meet(made: LiveChampion, name: str, version: int, share: float) -> str:
    """Let a challenger meet the traffic until it is stopped; one row of the table."""
    print(f"{name}: version {version} challenges")
    before = len(made.stream.replies)
    began = time.monotonic()
    made.operator.challenge(version, share)
    loaded = time.monotonic()
    patience_s = GOOD_SECONDS if name == "as good" else STOPPED_WITHIN_S
    because = None
    while because is None and time.monotonic() < loaded + patience_s:
        time.sleep(0.25)
        because = stopped_because(made, version)
    took_s = time.monotonic() - loaded
    time.sleep(2)
    seen = statistics(made, version)
    replies = made.stream.replies[before:]
    p99 = made.stream.p99_ms(loaded, loaded + took_s + 2)
    answered = sum(reply.version == version for reply in replies)
    made.operator.retire(version)
    failed = sum(reply.status != 200 for reply in made.stream.replies[before:])
    print(f"{name}: {because or 'not stopped'}; {failed} of {len(replies)} clients saw an error")
    stopped = f"{took_s:.1f} s" if because else "no"
    return (
        f"| {name} | {stopped} | {seen['requests']} | {seen['failed']} | {answered} | {failed} of {len(replies)} |"
        f" {p99:.0f} | {loaded - began:.1f} | {because or ''} |"
    )


def shadowed(made: LiveChampion, version: int, turns: int, seconds: float, share: float) -> list[str]:
    """The champion's latency with and without a slow shadow of every request, the one first or the other; table rows.

    The load is a share of what is answered at most.
    """
    rows, ratios = [], []
    for turn in range(turns):
        offer(made, share)
        p99s = {}
        for is_shadowed in (False, True) if turn % 2 == 0 else (True, False):
            if is_shadowed:
                made.operator.challenge(version, 1.0, "shadows")
                time.sleep(3)
            began, before = time.monotonic(), len(made.stream.replies)
            time.sleep(seconds)
            p99s[is_shadowed] = made.stream.p99_ms(began, began + seconds)
            replies = made.stream.replies[before:]
            failed = sum(reply.status != 200 for reply in replies)
            seen = statistics(made, version) if is_shadowed else {}
            if is_shadowed:
                made.operator.retire(version)
                time.sleep(SETTLED_S)
            rows.append(
                f"| {turn + 1} | {'yes' if is_shadowed else 'no'} | {len(replies)} | {failed} |"
                f" {p99s[is_shadowed]:.0f} | {seen.get('compared', '')} | {seen.get('dropped', '')} |"
            )
            print(rows[-1])
        ratios.append(p99s[True] / p99s[False])
    return [
        *rows,
        f"\nWith a shadow the p99 is {median(ratios):.2f} times what it is without, by the median of the turns.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Bad challengers on live traffic: who notices?")
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second, but beside a shadow")
    parser.add_argument("--share", type=float, default=0.2, help="the challenger's share of them")
    parser.add_argument("--only", action="append", help=f"one of: {', '.join(SPOILERS)}; may be repeated")
    parser.add_argument(
        "--shadow-seconds", type=float, default=20.0, help="each turn with or without a shadow; 0: none"
    )
    parser.add_argument("--shadow-turns", type=int, default=3, help="how often, each time without and with one")
    parser.add_argument(
        "--load", type=float, default=0.6, help="beside a shadow: share of the capacity, each turn anew"
    )
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    rows, shadow_rows = [], []
    with live_champion(options.rate, options.port) as made:
        origin = made.store.manifest(MODEL, CHAMPION)
        assert origin is not None
        with made.stream.flowing():
            for name, spoil in SPOILERS.items():
                if not options.only or name in options.only:
                    version = publish_spoilt(made.store, origin, spoil)
                    rows.append(meet(made, name, version, options.share))
            if options.shadow_seconds:
                version = publish_spoilt(made.store, origin, is_slow)
                shadow_rows = shadowed(made, version, options.shadow_turns, options.shadow_seconds, options.load)
    failed = len(made.stream.failures())
    print(
        "\n| challenger | stopped after | requests put to it | failed | answered to clients | clients that saw an error"
        " | p99 ms meanwhile | s to load | because |\n|---|---|---|---|---|---|---|---|---|"
    )
    print("\n".join(rows))
    if shadow_rows:
        print("\n| turn | slow shadow | requests | failed | champion's p99 ms | compared | dropped |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(shadow_rows))
    print(f"\n{len(made.stream.replies)} requests in all, {failed} of them not answered 200.")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
