"""Locks on directories: held until the descriptor is closed, and so never longer than the process lives."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(directory: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a directory. Raises BlockingIOError where another holds it and `wait` is false."""
    descriptor = lock(directory, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def lock(directory: Path, wait: bool = True) -> int:
    """Lock a directory and return the descriptor that holds it. Raises BlockingIOError as `locked` does."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
