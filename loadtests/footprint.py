"""What the service costs before anyone uses it, and what one request costs: `make footprint`.

Starts the service of serve_config.yaml and prints how long it took, the memory of each of its processes, and the
latency of one digit image at a time (closed loop, one client on the same machine).
"""

import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from jobs.serve import Serving
from loadtests.traffic import STARTUP_TIMEOUT_S, post

ROOT = Path(__file__).resolve().parents[1]
REQUESTS = 500

Memory = dict[str, tuple[float, float]]


def main() -> None:
    image = (ROOT / "docs" / "seven.png").read_bytes()
    started = time.monotonic()
    serving = Serving(ROOT / "serve_config.yaml")
    try:
        if not serving.wait_until_healthy(print, STARTUP_TIMEOUT_S):
            raise SystemExit("the service did not become healthy")
        startup_s = time.monotonic() - started
        latencies = sorted(latency_ms(serving.address, image) for _ in range(REQUESTS))
        memory = memory_mib(os.getpid())
        stopping = time.monotonic()
    finally:
        serving.stop()
    print_results(startup_s, time.monotonic() - stopping, latencies, memory)


def latency_ms(address: str, image: bytes) -> float:
    started = time.perf_counter()
    assert post(f"{address}/predict", image)[1]["predicted_class"] == "7"
    return (time.perf_counter() - started) * 1000


def memory_mib(root: int) -> Memory:
    """Resident and proportional memory of each descendant of a process and of all in their sessions, by Ray's names.

    Pages that processes share count fully in each one's resident memory (RSS), and once in all in the proportional
    one (PSS), so only the latter adds up.
    """
    command = ["ps", "-eo", "pid=,ppid=,sid=,rss=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 4) for line in listed.splitlines()]
    family = {root}
    for _ in rows:
        family |= {int(pid) for pid, *elders, _, _ in rows if family.intersection(map(int, elders))}
    memory: Memory = {}
    for pid, _, _, rss, arguments in rows:
        if int(pid) in family - {root} and not arguments.startswith("ps "):
            name = process_name(arguments)
            resident, proportional = memory.get(name, (0.0, 0.0))
            memory[name] = resident + int(rss) / 1024, proportional + pss_mib(int(pid))
    return dict(sorted(memory.items(), key=lambda item: -item[1][1]))


def pss_mib(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def process_name(command: str) -> str:
    if command.startswith("ray::"):
        return command.split()[0]
    if command.startswith("ray-dashboard-") or "dashboard" in command or "forkserver" in command:
        return "dashboard"
    for name in ("fork_server", "haproxy", "gcs_server", "raylet", "log_monitor", "monitor", "serve run"):
        if name in command:
            return name
    return "resource_tracker" if "resource_tracker" in command else Path(command.split()[0]).name


def print_results(
    startup_s: float, stop_s: float, latencies: list[float], memory: dict[str, tuple[float, float]]
) -> None:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "onnxruntime", "tensorflow"))
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    print(f"\n{machine}, Python {platform.python_version()}, {libraries}\n")
    print("| | |\n|---|---|")
    print(f"| `serve run` to healthy | {startup_s:.1f} s |")
    print(f"| Ctrl-C to gone | {stop_s:.1f} s |")
    print(f"| one image at a time, median | {statistics.median(latencies):.1f} ms |")
    print(f"| one image at a time, p99 | {latencies[int(len(latencies) * 0.99)]:.1f} ms |")
    print("\n| process | RSS, MiB | PSS, MiB |\n|---|---|---|")
    for name, (resident, proportional) in memory.items():
        print(f"| {name} | {resident:.0f} | {proportional:.0f} |")
    print(f"| sum | {sum(r for r, _ in memory.values()):.0f} | {sum(p for _, p in memory.values()):.0f} |")


if __name__ == "__main__":
    main()
