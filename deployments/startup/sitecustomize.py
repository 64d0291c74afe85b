"""Python runs this first in every process of a service whose PYTHONPATH names this directory."""

import importlib
import os
import sys

if os.environ.get("TILTYARD_FORK_SERVER") == "1" and "worker.py" in "".join(sys.orig_argv[1:2]):
    from deployments.fork_client import hand_over

    hand_over(sys.orig_argv)

# It stands in for another one that the machine may have.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]
own = sys.modules.pop("sitecustomize")
try:
    importlib.import_module("sitecustomize")
except ModuleNotFoundError:
    sys.modules["sitecustomize"] = own
