"""`tiltyard serve`: `serve run` with Ray Serve's fast ingress, and the addresses a person needs."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from jobs.serve_config import MODEL_VERSION, ServeConfig
from jobs.service import DASHBOARD, Service, get_json
from models.errors import ServiceError
from models.machine import cores
from models.store import DEFAULT_ROOT, Store

# Read by Ray at import, so they must be set before it starts. A value that is set already stays.
FAST_INGRESS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Between deployments gRPC refuses messages above 4 MiB by default; a 16 MiB body decodes to more than that.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(256 * 1024 * 1024),
    # And past the handles a call takes a sixth of the CPU at most (deployments/bypass.py).
    "TILTYARD_BYPASS": "1",
    # Ray Serve would write the access log 1,000 lines at a time, and for 16 ms the Router would stand still.
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    # How long a Router that is told to stop keeps answering; Ray's 30 s are for load balancers in front of it.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    # How often the controller looks at every replica: Ray's 0.1 s took 12 % of a core while nothing happened, this 5 %.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # A Router that takes a new user_config is out of Ray Serve's routing until the controller has looked again. HAProxy
    # need not hear of that, and now seldom does: for those 0.5 s all went through a slow proxy, and p99 to 400 ms.
    "RAY_SERVE_HAPROXY_BROADCAST_COALESCE_S": "1",
    # And is not reloaded afterwards with the configuration that it has.
    "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": "deployments.haproxy.stand_in",
    # Ray runs replicas at nice 15, so whatever else the machine does preempts an answer.
    "RAY_worker_niceness": "0",
    # And one that is ready goes before one that starts, where that is allowed.
    "TILTYARD_NICENESS": "-10",
    # And is woken sooner to pass a request on, which shortens the tail while the cores are full (loadtests/RESULTS.md).
    # Everybody may ask for that.
    "TILTYARD_SLICE_MICROS": "100",
    # And one that starts makes way for all of them altogether, where it may come back (loadtests/RESULTS.md).
    "RAY_preload_python_modules": "deployments.starting",
    # And is forked from a process that has imported everything, for a seventh of the CPU (deployments/fork_server.py).
    "TILTYARD_FORK_SERVER": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
MOST_STARTING = "RAY_worker_maximum_startup_concurrency"
"""How many processes Ray starts at a time. For a new version it starts two, each of which takes a core for seconds; so
half of the cores are left for answers."""

STARTUP = Path(__file__).parents[1] / "deployments" / "startup"
"""On PYTHONPATH, where Python finds what it runs first in every process."""

_DASHBOARD = re.compile(r"View the dashboard at\D*(http://[\w.:]+)")
STOP_TIMEOUT_S = 40.0
REPORT_S = 15.0

Report = Callable[[str], None]


def fast_ingress() -> dict[str, str]:
    """The environment that `serve run` starts in."""
    python_path = os.pathsep.join(filter(None, [str(STARTUP), os.environ.get("PYTHONPATH")]))
    return {**FAST_INGRESS, MOST_STARTING: str(max(1, cores() // 2)), **os.environ, "PYTHONPATH": python_path}


def unpublished(path: Path) -> list[tuple[str, int, Path]]:
    """Versions that a configuration serves, but that are not in the store it names, and that store's root.

    Raises InvalidConfig.
    """
    applications = ServeConfig.read(path).plain()["applications"]
    missing = []
    for args in (app.get("args") or {} for app in applications if app.get("import_path") == MODEL_VERSION):
        store = Store(args.get("store", DEFAULT_ROOT))
        if args["version"] not in store.versions(args["model"]):
            missing.append((args["model"], args["version"], store.root))
    return missing


class Serving:
    """A `serve run` in a session of its own, so that Ctrl-C reaches it once, through us."""

    def __init__(self, path: Path) -> None:
        options = ServeConfig.read(path).plain().get("http_options") or {}
        self.address = f"http://127.0.0.1:{options.get('port', 8000)}"
        self.dashboard = DASHBOARD
        self._process = subprocess.Popen(
            [Path(sys.executable).with_name("serve"), "run", str(path)],
            env={**fast_ingress(), "TILTYARD_SERVE_CONFIG": str(path.resolve())},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=default_interrupt,
        )
        assert self._process.stdout is not None
        self._output = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._output.start()

    def wait_until_healthy(self, report: Report, timeout_s: float = float("inf")) -> bool:
        """Wait until every configured model answers; False where `serve run` ended first, or time did.

        `report` is told now and then what is waited for, and what has failed and why.
        """
        started = reported = time.monotonic()
        while self._process.poll() is None and time.monotonic() < started + timeout_s:
            status, health = get_json(f"{self.address}/health")
            if status == 200:
                return True
            if time.monotonic() - reported > REPORT_S:
                reported = time.monotonic()
                report(f"{reported - started:.0f} s: waiting for {_missing(health)}")
                for name, why in self._failures().items():
                    report(f"  {name}: {why}")
            time.sleep(0.3)
        return False

    def _failures(self) -> dict[str, str]:
        with suppress(ServiceError):
            return Service(self.dashboard).failures()
        return {}

    def wait(self) -> int:
        """Wait until it ends by itself; its exit status."""
        return self._process.wait()

    def stop(self) -> int:
        """Interrupt it and wait; if it does not end, kill it, and Ray ends with it."""
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
                with suppress(OSError):  # who reads us may be gone; whoever writes to us must not block
                    sys.stdout.write(line)
                    sys.stdout.flush()
                if found := _DASHBOARD.search(line):
                    self.dashboard = found.group(1)


def _missing(health: Any) -> str:
    """What /health says is missing, or the gateway where it does not answer yet."""
    if not isinstance(health, dict) or "missing" not in health:
        return "the gateway"
    return ", ".join(f"{each['model']} version {each['version']}" for each in health["missing"])


def default_interrupt() -> None:
    """Undo an ignored SIGINT, which a shell without job control leaves to what it starts in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
