"""What a fork server imports for all of its forks, and whether they will be as good as processes of their own."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PRELOADED = (
    "ray._private.workers.default_worker",
    "ray.serve._private.controller",
    "ray.serve._private.haproxy",
    "deployments.app",
)
"""What is imported once for all: Ray's own start of a process, Ray Serve and the deployments. No TensorFlow: it would
cost seconds and memory where none of the versions needs it."""

FORK_SAFE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads that libraries start at import and see to themselves when a process forks."""


def preload() -> None:
    """Import everything. Raises RuntimeError where forks would not be as good as processes of their own."""
    with _identifiers_from_the_system():
        for module in PRELOADED:
            importlib.import_module(module)
    if _drawn_by_a_fork() == _drawn_by_a_fork():
        raise RuntimeError("an import has seeded Ray's random generator, and all forks would draw the same identifiers")
    if threads := _threads() - FORK_SAFE_THREADS:  # those of OpenBLAS have ended with the first fork
        raise RuntimeError(f"an import has started {', '.join(sorted(threads))}, a thread that no fork would have")


@contextmanager
def _identifiers_from_the_system() -> Iterator[None]:
    """Keep `@ray.remote` on a class from seeding the generator of all identifiers.

    With the same seed two forks named their tasks alike, and the controller of Ray Serve died of it.
    """
    actor: Any = importlib.import_module("ray.actor")
    original = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: original(os.urandom(original.size())))
    try:
        yield
    finally:
        actor.ActorClassID = original


def _drawn_by_a_fork() -> bytes:
    """An identifier that Ray draws in a fork."""
    reader, writer = os.pipe()
    fork = os.fork()
    if fork == 0:
        os.write(writer, importlib.import_module("ray").WorkerID.from_random().binary())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        drawn = file.read()
    os.waitpid(fork, 0)
    return drawn


def _threads() -> set[str]:
    """Names of all threads but this one."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    return {(task / "comm").read_text().strip() for task in tasks}
