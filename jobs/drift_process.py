"""Starts the drift job in the environment that has Evidently: pandas must not be where Ray Serve runs."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from models.errors import ServiceError
from models.store import DEFAULT_ROOT

PROJECT = DEFAULT_ROOT.parents[1]
PYTHON = "TILTYARD_DRIFT_PYTHON"
"""Variable that names another interpreter."""


def drift_python() -> Path:
    """The interpreter of .venv-drift. Raises ServiceError where there is none."""
    path = Path(os.environ.get(PYTHON) or PROJECT / ".venv-drift" / "bin" / "python")
    if not os.access(path, os.X_OK):
        raise ServiceError(
            "the drift job has an environment of its own, which is not there: `make drift` makes it in .venv-drift"
            f" (or set {PYTHON} to its python)"
        )
    return path


def run_drift_job(arguments: Sequence[str]) -> int:
    """Run the job with its output passed through; return its exit status."""
    signal.signal(signal.SIGTERM, _end)  # else the job would go on alone
    process = subprocess.Popen(
        [str(drift_python()), "-m", "jobs.drift", *arguments],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal told it, too
        return 130
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
            sys.stderr.flush()


def _end(*_: object) -> None:
    sys.exit(143)
