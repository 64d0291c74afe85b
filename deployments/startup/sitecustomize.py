"""Python runs this first in every process of a service whose PYTHONPATH names this directory."""

import importlib.util
import os
import sys

if os.environ.get("TILTYARD_FORK_SERVER") == "1":
    words = sys.orig_argv[1:3]  # before the script there may be `-s`
    if any(word.endswith("/setup_worker.py") for word in words):
        os.environ["TILTYARD_FORK_SERVER"] = "0"  # what it becomes has a runtime_env of its own
    elif any(word.endswith("/default_worker.py") for word in words) and importlib.util.find_spec("deployments"):
        importlib.import_module("deployments.fork_client").hand_over(sys.orig_argv)

# It stands in for another one that the machine may have.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(__file__)]
own = sys.modules.pop("sitecustomize")
try:
    importlib.import_module("sitecustomize")
except ModuleNotFoundError as error:
    if error.name != "sitecustomize":
        raise
    sys.modules["sitecustomize"] = own
