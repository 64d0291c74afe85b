"""Forks the processes that Ray starts from one that has imported all that they need.

By itself each of them takes some 3 s of CPU and 120 MB, nearly all of it for imports that are the same in all of them.
A fork has them at once, and shares their memory (loadtests/RESULTS.md). Ray starts the parts of its dashboard in the
same way (https://github.com/ray-project/ray/pull/65159). The raylet learns of a process when that registers, with its
own pid, so it does not matter who forked it.

Whatever a fork must not share with others is looked after here: randomness, process group, signals. Where anything is
not as expected, processes start as Ray starts them.
"""

import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from deployments.fork_client import ACCEPTED, Start, is_ours, receive, refuse

PRELOADED = (
    "ray._private.workers.default_worker",
    "ray.serve._private.controller",
    "ray.serve._private.haproxy",
    "deployments.app",
)
"""What is imported once for all: Ray's own start of a process, Ray Serve and the deployments. No TensorFlow: it would
cost seconds and memory where none of the versions needs it."""

PER_PROCESS = frozenset({"RAY_JOB_ID"})
"""Variables that Ray sets for each process. Whoever differs in another is not forked: imports may have read it."""

TIMEOUT_S = 5.0
"""How long who asks may take to do so; all others wait meanwhile."""


def main(address: str, lock: int) -> None:
    """Serve until the raylet is gone. In a fork, do what Ray started it for."""
    environment = dict(os.environ)
    os.setpgid(0, 0)  # when a process ends, Ray kills its group, and we were started by one
    raylet = os.pidfd_open(int(environment["RAY_RAYLET_PID"]))
    try:
        _preload()
    except Exception as error:  # whatever a library raises at import
        refuse(address, repr(error))
        raise
    gc.freeze()  # what nobody collects stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel sees to forks that have ended
    start = _serve(address, raylet, environment)
    if start is not None:
        os.close(lock)
        os.close(raylet)
        _become(start)


def _preload() -> None:
    """Import everything. Raises RuntimeError where forks would not be as good as processes of their own."""
    with _identifiers_from_the_system():
        for module in PRELOADED:
            importlib.import_module(module)
    if threading.active_count() > 1:
        raise RuntimeError("an import has started a thread, which no fork would have")
    if _drawn_by_a_fork() == _drawn_by_a_fork():
        raise RuntimeError("an import has seeded Ray's random generator, and all forks would draw the same identifiers")


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


def _serve(address: str, raylet: int, environment: Mapping[str, str]) -> Start | None:
    """Fork whoever is asked for. Returns how it is to start in the fork, and None when the raylet is gone."""
    with closing(_listen(address)) as listener:
        while True:
            ready, _, _ = select.select([listener.fileno(), raylet], [], [])
            if raylet in ready:
                return None
            connection, _ = listener.accept()
            with suppress(OSError, ValueError, TypeError), connection:  # whoever asked is gone, or it was no question
                start = _fork(connection, environment)
                if start is not None:
                    return start


def _listen(address: str) -> socket.socket:
    """Listen at an address that only this user may connect to, in place of a server that was killed."""
    with suppress(FileNotFoundError):
        os.unlink(address)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(address)
    finally:
        os.umask(mask)
    listener.listen(socket.SOMAXCONN)
    return listener


def _fork(connection: socket.socket, environment: Mapping[str, str]) -> Start | None:
    """Fork for who asks, with its streams, unless its environment is another one. Returns a start in the fork only."""
    if not is_ours(connection):
        return None
    connection.settimeout(TIMEOUT_S)
    start, streams = receive(connection)
    try:
        if _shared(start.environment) != _shared(environment) or os.fork():
            return None
        try:
            os.setpgid(0, 0)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            connection.sendall(ACCEPTED)
        except OSError:
            os._exit(1)  # it has gone on by itself
        return start
    finally:
        for stream in streams:
            os.close(stream)


def _shared(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in PER_PROCESS}


def _become(start: Start) -> None:
    """Run the script that Ray started, as if this process had been started for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in PER_PROCESS:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in start.environment.items() if name in PER_PROCESS})
    if random := sys.modules.get("numpy.random"):
        random.seed()  # `random` and `ssl` do so by themselves
    os.chdir(start.directory)
    script = start.arguments[0]
    sys.argv = list(start.arguments)
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
