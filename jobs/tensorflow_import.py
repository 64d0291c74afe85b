"""Importing TensorFlow without the notes it writes to the terminal."""

import importlib
import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow for the CPU with file descriptor 2 closed: what it says then is meant for its developers.

    An import that fails still raises.
    """
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
