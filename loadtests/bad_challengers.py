"""Challengers that fail in every way meet live traffic; who notices? `make bad-challengers`.

One champion, a steady stream of digits with the truth sent after each, and one bad challenger after the other at a
share of the traffic: it is challenged as a person would, watched until the referee stops it, and retired. A table says
how long that took, how many requests it was put to, and what clients saw meanwhile.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML

from jobs import digits
from jobs.author import Author
from jobs.change import carry_out
from jobs.rollout import plan_challenge, plan_retire
from jobs.serve import Serving
from jobs.service import Service, get_json
from loadtests.digit_stream import Digit, Stream
from loadtests.spoiled_models import SPOILERS, is_as_good, is_slow, marked, publish_spoilt
from loadtests.traffic import STARTUP_TIMEOUT_S
from models.rollout import History
from models.store import DEFAULT_ROOT, Store

MODEL, CHAMPION = "digits", 2
AUTHOR = Author("load test", "to see whether anybody notices")
STOPPED_WITHIN_S = 300.0
GOOD_SECONDS = 30.0
CHANGE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A running service with one champion, and where its versions are."""

    path: Path
    store: Store
    serving: Serving
    service: Service
    stream: Stream


def serve_config(
    store: Path, port: int, policy: Mapping[str, Any], routers: int, traffic_log: Mapping[str, Any]
) -> dict[str, Any]:
    """One champion; room for a second version on two cores."""
    traffic_log = {"root": str(store.parent / "traffic"), **traffic_log}
    policy = {"champion": CHAMPION, "fallback": {"after_s": 0.5}, "guard": {"compare": 0.5}, **policy}
    router = {"name": "Router", "num_replicas": routers, "user_config": {"models": {MODEL: policy}}}
    return {
        "http_options": {"host": "127.0.0.1", "port": port, "request_timeout_s": 30},
        "applications": [
            {
                "name": "gateway",
                "route_prefix": "/",
                "import_path": "deployments.app:gateway",
                "args": {"store": str(store), "traffic_log": traffic_log},
                "deployments": [router],
            },
            {
                "name": f"{MODEL}-v{CHAMPION}",
                "route_prefix": None,
                "import_path": "deployments.app:model_version",
                "args": {"model": MODEL, "version": CHAMPION, "store": str(store), "artifact": "onnx"},
                "deployments": [{"name": "ModelServer", "autoscaling_config": {"min_replicas": 1, "max_replicas": 1}}],
            },
        ],
    }


@contextmanager
def bench(
    rate: float,
    port: int,
    policy: Mapping[str, Any] = MappingProxyType({}),
    routers: int = 1,
    traffic_log: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Bench]:
    """Serve the champion from a store of its own, and send it marked digits."""
    data = digits.load().held_out
    stream = [Digit(marked(file), str(label)) for file, label in zip(data.files, data.classes, strict=True)]
    with tempfile.TemporaryDirectory(prefix="tiltyard-") as directory:
        store = Store(Path(directory) / "store")
        shutil.copytree(DEFAULT_ROOT / MODEL / str(CHAMPION), store.root / MODEL / str(CHAMPION))
        path = Path(directory) / "serve_config.yaml"
        with path.open("w") as file:
            YAML().dump(serve_config(store.root, port, policy, routers, traffic_log), file)
        serving = Serving(path)
        try:
            if not serving.wait_until_healthy(print, STARTUP_TIMEOUT_S):
                raise SystemExit("the service did not become healthy")
            flowing = Stream(serving.address, stream, rate, gives_feedback=True)
            yield Bench(path, store, serving, Service(serving.dashboard), flowing)
        finally:
            serving.stop()


def challenge(made: Bench, version: int, share: float, is_shadow: bool = False) -> None:
    """Challenge as `tiltyard challenge` does."""
    role: Any = "shadows" if is_shadow else "challengers"
    change = plan_challenge(made.path, MODEL, version, AUTHOR, role=role, share=share)
    carry_out(change, made.service, CHANGE_TIMEOUT_S, lambda _: None)


def retire(made: Bench, version: int) -> None:
    """Retire as `tiltyard retire` does."""
    change = plan_retire(made.path, MODEL, version, AUTHOR)
    carry_out(change, made.service, CHANGE_TIMEOUT_S, lambda _: None)


def stopped_because(made: Bench, version: int) -> str | None:
    """Why the referee stopped a version; None while it has not."""
    for event in reversed(History(made.store, MODEL).events()):
        if event.version == version and event.by == "referee" and event.action == "rollback":
            return event.because
    return None


def statistics(made: Bench, version: int) -> dict[str, Any]:
    """What the referee counted of a version."""
    _, body = get_json(f"{made.serving.address}/models/{MODEL}/rollout")
    found: dict[str, Any] = next(each["statistics"] for each in body["variants"] if each["version"] == version)
    return found


def meet(made: Bench, name: str, version: int, share: float, harm: Callable[[Bench, int], Any] | None = None) -> str:
    """Let a challenger meet the traffic until it is stopped; one row of the table."""
    print(f"{name}: version {version} challenges")
    before = len(made.stream.replies)
    began = time.monotonic()
    challenge(made, version, share)
    loaded = time.monotonic()
    over = threading.Event()
    if harm is not None:
        threading.Thread(target=_harm, args=(harm, made, version, over), daemon=True).start()
    patience_s = GOOD_SECONDS if name == "as good" else STOPPED_WITHIN_S
    because = None
    while because is None and time.monotonic() < loaded + patience_s:
        time.sleep(0.25)
        because = stopped_because(made, version)
    took_s = time.monotonic() - loaded
    time.sleep(2)
    seen = statistics(made, version)
    over.set()
    replies = made.stream.replies[before:]
    p99 = made.stream.p99_ms(loaded, loaded + took_s + 2)
    answered = sum(reply.version == version for reply in replies)
    retire(made, version)
    failed = sum(reply.status != 200 for reply in made.stream.replies[before:])
    print(f"{name}: {because or 'not stopped'}; {failed} of {len(replies)} clients saw an error")
    stopped = f"{took_s:.1f} s" if because else "no"
    return (
        f"| {name} | {stopped} | {seen['requests']} | {seen['failed']} | {answered} | {failed} of {len(replies)} |"
        f" {p99:.0f} | {loaded - began:.1f} | {because or ''} |"
    )


def _harm(harm: Callable[[Bench, int], Any], made: Bench, version: int, over: threading.Event) -> None:
    while not over.wait(0.2):
        with suppress(OSError, StopIteration, KeyError):
            harm(made, version)


def crash(made: Bench, version: int) -> None:
    """End every replica of a version as a segmentation fault does."""
    for pid in made.service.replicas(f"{MODEL}-v{version}", "ModelServer").values():
        os.kill(pid, signal.SIGSEGV)


def shadowed(made: Bench, version: int, seconds: float) -> list[str]:
    """The champion's latency with and without a slow shadow of every request, in turns; rows of a table."""
    rows = []
    for turn in range(3):
        for is_shadowed in (False, True):
            if is_shadowed:
                challenge(made, version, 1.0, is_shadow=True)
                time.sleep(3)
            began, before = time.monotonic(), len(made.stream.replies)
            time.sleep(seconds)
            p99 = made.stream.p99_ms(began, began + seconds)
            replies = made.stream.replies[before:]
            failed = sum(reply.status != 200 for reply in replies)
            seen = statistics(made, version) if is_shadowed else {}
            if is_shadowed:
                retire(made, version)
            rows.append(
                f"| {turn + 1} | {'yes' if is_shadowed else 'no'} | {len(replies)} | {failed} | {p99:.0f} |"
                f" {seen.get('compared', '')} | {seen.get('dropped', '')} |"
            )
            print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Bad challengers on live traffic: who notices?")
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second")
    parser.add_argument("--share", type=float, default=0.2, help="the challenger's share of them")
    parser.add_argument("--only", action="append", help=f"one of: {', '.join(SPOILERS)}, crashes; may be repeated")
    parser.add_argument(
        "--shadow-seconds", type=float, default=20.0, help="each turn with or without a shadow; 0: none"
    )
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    rows, shadow_rows = [], []
    with bench(options.rate, options.port) as made:
        origin = made.store.manifest(MODEL, CHAMPION)
        assert origin is not None
        with made.stream.flowing():
            for name, spoil in {**SPOILERS, "crashes": is_as_good}.items():
                if not options.only or name in options.only:
                    version = publish_spoilt(made.store, origin, spoil)
                    rows.append(meet(made, name, version, options.share, crash if name == "crashes" else None))
            if options.shadow_seconds:
                version = publish_spoilt(made.store, origin, is_slow)
                shadow_rows = shadowed(made, version, options.shadow_seconds)
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
