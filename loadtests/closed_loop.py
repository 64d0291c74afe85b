"""A closed loop: a fixed number of clients, each sending its next request when the last one is answered.

The load generator is wrk with one thread. wrk fills in the requests that a stalled answer kept it from sending
(`stats_correct` in its source), so a stall counts in the percentiles as if clients had gone on arriving.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtests.peers.peer import Request

SCRIPT = Path(__file__).with_name("wrk.lua")
MARKER = "wrk-json "
TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Closed:
    """What wrk saw. `cpu_share` is wrk's own CPU time over that of all cores."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: int
    cpu_share: float

    @property
    def per_second(self) -> float:
        """Requests answered well, per second."""
        return max(0, self.requests - self.errors) / self.seconds


def closed_loop(address: str, request: Request, body: Path, clients: int, seconds: float) -> Closed:
    """Load a server for some seconds. Raises RuntimeError where wrk fails."""
    headers = [option for name, value in request.headers.items() for option in ("-H", f"{name}: {value}")]
    command = [
        *("wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_S}s", "--latency"),
        *("-s", str(SCRIPT), *headers, f"{address}{request.path}"),
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "BENCH_BODY": str(body)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"wrk: {output.strip()}")
    return parse_wrk(output, usage.ru_utime + usage.ru_stime, os.cpu_count() or 1)


def parse_wrk(output: str, cpu_s: float, cores: int) -> Closed:
    """Read the line that wrk.lua writes. Raises RuntimeError where it is not there."""
    line = next((line for line in output.splitlines() if line.startswith(MARKER)), None)
    if line is None:
        raise RuntimeError(f"wrk wrote no result: {output.strip()}")
    found = json.loads(line.removeprefix(MARKER))
    return Closed(
        requests=found["requests"],
        seconds=found["seconds"],
        **{name: found[name] for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")},
        errors=found["status_errors"] + found["socket_errors"] + found["timeouts"],
        cpu_share=cpu_s / found["seconds"] / cores,
    )
