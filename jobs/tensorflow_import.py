"""Importing TensorFlow without the notes it writes to the terminal."""

import importlib
import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow with file descriptor 2 closed: what it says at its start is meant for its developers.

    An import that fails still raises.
    """
    if "tensorflow" in sys.modules:
        return
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
