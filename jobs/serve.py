"""`tiltyard serve`: `serve run` with Ray Serve's fast ingress, and the addresses a person needs."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from jobs.serve_config import ServeConfig
from jobs.service import DASHBOARD, get_json

# Read by Ray at import, so they must be set before it starts. A value that is set already stays.
FAST_INGRESS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Between deployments gRPC refuses messages above 4 MiB by default; a 16 MiB body decodes to more than that.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 1024 * 1024),
    # How long a Router that is told to stop keeps answering; Ray's 30 s are for load balancers in front of it.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_DASHBOARD = re.compile(r"View the dashboard at\D*(http://[\w.:]+)")
STOP_TIMEOUT_S = 40.0


def fast_ingress() -> dict[str, str]:
    """The environment that `serve run` starts in."""
    return {**FAST_INGRESS, **os.environ}


class Serving:
    """A `serve run` in a session of its own, so that Ctrl-C reaches it once, through us."""

    def __init__(self, path: Path) -> None:
        options = ServeConfig.read(path).plain().get("http_options") or {}
        self.address = f"http://127.0.0.1:{options.get('port', 8000)}"
        self.dashboard = DASHBOARD
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("serve"), "run", str(path)],
            env=fast_ingress(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_default_interrupt,
        )
        assert self._process.stdout is not None
        self._output = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._output.start()

    def wait_until_healthy(self, timeout_s: float = float("inf")) -> bool:
        """Wait until every configured model answers; False where `serve run` ended first, or time did."""
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None and time.monotonic() < deadline:
            if get_json(f"{self.address}/health")[0] == 200:
                return True
            time.sleep(0.3)
        return False

    def wait(self) -> int:
        """Wait until it ends by itself; its exit status."""
        return self._process.wait()

    def stop(self) -> int:
        """Interrupt it and wait; whatever is left of its session after that is killed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()
        finally:
            self._output.join(timeout=5)

    def _pass_on(self, output: IO[str]) -> None:
        with output:
            for line in output:
                sys.stdout.write(line)
                sys.stdout.flush()
                if found := _DASHBOARD.search(line):
                    self.dashboard = found.group(1)


def _default_interrupt() -> None:
    """Undo an ignored SIGINT, which a shell without job control leaves to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
