"""Kill replicas by pid under load and see what clients notice: `make chaos`.

Four clients on the same machine send a digit in a closed loop. Each kind of replica is killed three times; a table
says how long no request was answered 200, the slowest request, and what was answered meanwhile.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

from jobs.serve import Serving
from jobs.service import Service
from loadtests.traffic import STARTUP_TIMEOUT_S, seconds_until_answered, traffic

ROOT = Path(__file__).resolve().parents[1]
KILLS = 3
VICTIMS = (("digits-v1", "ModelServer"), ("gateway", "Preprocessor"), ("gateway", "Router"))


def main() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    image = (ROOT / "docs" / "seven.png").read_bytes()
    serving = Serving(ROOT / "serve_config.yaml")
    rows = []
    try:
        if not serving.wait_until_healthy(print, STARTUP_TIMEOUT_S):
            raise SystemExit("the service did not become healthy")
        service = Service(serving.dashboard)
        for application, deployment in VICTIMS:
            rows += [kill(serving, service, application, deployment, image) for _ in range(KILLS)]
    finally:
        serving.stop()
    print("\n| killed | longest gap without an answer | slowest request | answers |\n|---|---|---|---|")
    print("\n".join(rows))


def kill(serving: Serving, service: Service, application: str, deployment: str, image: bytes) -> str:
    """Kill the only replica of a deployment in the middle of traffic; one row of the table."""
    url = f"{serving.address}/predict"
    with traffic(url, image) as result:
        time.sleep(2)
        os.kill(next(iter(service.replicas(application, deployment).values())), signal.SIGKILL)
        died = time.monotonic()
        time.sleep(0.2)
        seconds_until_answered(url, image)
        gap_s = time.monotonic() - died
        time.sleep(3)
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(Counter(result.statuses).items()))
    return f"| {deployment} | {gap_s:.1f} s | {max(result.seconds):.1f} s | {answers} |"


if __name__ == "__main__":
    main()
