"""An open loop: requests arrive at a fixed rate, whether or not the last ones are answered.

    python -m loadtests.open_loop http://127.0.0.1:8000/predict --body docs/seven.png \
        --header 'content-type: image/png' --rate 100 --seconds 10

Each latency is counted from the moment the request was due, not from when it was sent, so a server that stalls cannot
make the generator politely wait (coordinated omission). One process, one thread, one epoll, HTTP/1.1 with connections
kept; it writes one line of JSON, with its own CPU time and how late it was in sending: `late_p99_ms` tells where the
generator itself did not keep up.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.http_connections import Connections, http_request
from loadtests.peers.peer import Request

ROOT = Path(__file__).resolve().parents[1]
DRAIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Open:
    """What the generator saw: latencies of the 200s, the refused (503, 429), and all else that is not 200 as errors."""

    offered_rps: float
    requests: int
    ok: int
    refused: int
    errors: int
    goodput_rps: float
    p50_ms: float
    p99_ms: float
    refused_p99_ms: float
    late_p99_ms: float
    cpu_share: float


def schedule(rate: float, seconds: float) -> Iterator[float]:
    """Seconds after the start at which each request is due, evenly spaced."""
    return (index / rate for index in range(round(rate * seconds)))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank); 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def generate(connections: Connections, rate: float, seconds: float) -> None:
    """Send on schedule, then wait for what is still out, but not for ever."""
    started = time.perf_counter() + 0.05
    for due in schedule(rate, seconds):
        while (wait := started + due - time.perf_counter()) > 0:
            connections.poll_for(wait)
        connections.send(started + due)
    deadline = started + seconds + DRAIN_S
    while connections.busy and time.perf_counter() < deadline:
        connections.poll_for(0.1)
    connections.close()


def summary(
    latencies_ms: Mapping[int, Sequence[float]], late_ms: Sequence[float], rate: float, seconds: float, cpu_share: float
) -> Open:
    """What came of a run, given the latencies by status, and how long it took until the last answer."""
    ok = latencies_ms.get(200, [])
    refused = [value for status in (429, 503) for value in latencies_ms.get(status, [])]
    total = sum(map(len, latencies_ms.values()))
    return Open(
        offered_rps=rate,
        requests=total,
        ok=len(ok),
        refused=len(refused),
        errors=total - len(ok) - len(refused),
        goodput_rps=len(ok) / seconds,
        p50_ms=percentile(ok, 50),
        p99_ms=percentile(ok, 99),
        refused_p99_ms=percentile(refused, 99),
        late_p99_ms=percentile(late_ms, 99),
        cpu_share=cpu_share,
    )


def open_loop(address: str, request: Request, body: Path, rate: float, seconds: float) -> Open:
    """Load a server at a fixed rate, from a process of its own. Raises RuntimeError where that fails."""
    command = [
        *(sys.executable, "-m", "loadtests.open_loop", f"{address}{request.path}"),
        *("--body", str(body), "--rate", str(rate), "--seconds", str(seconds)),
        *(option for name, value in request.headers.items() for option in ("--header", f"{name}: {value}")),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the open loop failed: {done.stderr.strip()}")
    return Open(**json.loads(done.stdout))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Requests at a fixed rate; latency counted from when each was due.")
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file that is sent")
    parser.add_argument("--header", action="append", default=[], help="'name: value'; may be repeated")
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options: Any = parser.parse_args(arguments)
    connections = Connections(options.url, http_request(options.url, options.header, options.body.read_bytes()))
    started = time.perf_counter()
    generate(connections, options.rate, options.seconds)
    elapsed = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_share = (usage.ru_utime + usage.ru_stime) / elapsed / (os.cpu_count() or 1)
    result = summary(connections.latencies_ms, connections.late_ms, options.rate, elapsed, cpu_share)
    print(json.dumps({name: getattr(result, name) for name in Open.__slots__}))


if __name__ == "__main__":
    main()
