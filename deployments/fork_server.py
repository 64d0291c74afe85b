"""Forks the processes that Ray starts from one that has imported all that they need.

By itself each of them takes some 3 s of CPU and 120 MB, nearly all of it for imports that are the same in all of them.
A fork has them at once, and shares their memory (loadtests/RESULTS.md). Ray starts the parts of its dashboard in the
same way (https://github.com/ray-project/ray/pull/65159). The raylet learns of a process when that registers, with its
own pid, so it does not matter who forked it.

Whatever a fork must not share with others is looked after: randomness, process group, signals. Where an import does
what cannot be looked after (deployments/preloading.py), processes start as Ray starts them.
"""

import gc
import importlib
import logging
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import closing, suppress
from pathlib import Path

from deployments.fork_client import ANSWER_S, NO_JOB, READY, TAKE_OVER, Start, close, is_ours, receive, refuse
from deployments.preloading import preload

logger = logging.getLogger("deployments.fork_server")


def main(address: str, lock: int) -> None:
    """Serve until the raylet is gone. In a fork, do what Ray started it for."""
    if os.fork():
        os._exit(0)
    os.setpgid(0, 0)  # when a process ends, Ray kills its group, and one of them has started us
    try:
        raylet = os.pidfd_open(int(os.environ["RAY_RAYLET_PID"]))
        preload()
    except Exception as error:  # whatever a library raises at import
        refuse(address, repr(error))
        raise
    gc.freeze()  # what nobody collects stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel sees to forks that have ended
    start = _serve(address, raylet)
    if start is not None:
        close([lock, raylet])
        _become(start)


def _serve(address: str, raylet: int) -> Start | None:
    """Fork whoever is asked for. Returns how it is to start in the fork, and None when the raylet is gone."""
    with closing(_listen(address)) as listener:
        while True:
            ready, _, _ = select.select([listener.fileno(), raylet], [], [])
            if raylet in ready:
                return None
            with suppress(OSError, ValueError, TypeError):  # whoever asked is gone, or it was no question
                start = _answer(listener.accept()[0])
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


def _answer(connection: socket.socket) -> Start | None:
    """Fork for who asks, if its environment is ours: imports may have read it. Returns a start in the fork only."""
    with connection:
        connection.settimeout(ANSWER_S)
        if not is_ours(connection):
            return None
        start, streams = receive(connection)
        try:
            if differing := _differing(start):
                logger.warning("a process is not forked, because of its %s", ", ".join(differing))
            elif os.fork() == 0:
                return _take_over(connection, start, streams)
            return None
        finally:
            close(streams)


def _differing(start: Start) -> list[str]:
    """Names of variables in which a process differs from this one, as that was started."""
    words = os.fsdecode(Path("/proc/self/environ").read_bytes()).split("\0")
    ours = {**dict(word.split("=", 1) for word in words if "=" in word), "executable": sys.executable}
    theirs = {**start.environment, **NO_JOB, "executable": start.executable}
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _take_over(connection: socket.socket, start: Start, streams: list[int]) -> Start:
    """In a fork: go on for who asked, with its streams, or end where it goes on by itself."""
    try:
        os.setpgid(0, 0)
        os.chdir(start.directory)
        connection.sendall(READY)
        if connection.recv(1) != TAKE_OVER:
            os._exit(1)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
    except OSError:
        os._exit(1)
    return start


def _become(start: Start) -> None:
    """Run the script that Ray started, as if this process had been started for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for name in NO_JOB:
        del os.environ[name]
    os.environ.update({name: value for name, value in start.environment.items() if name in NO_JOB})
    if random := sys.modules.get("numpy.random"):
        random.seed()  # `random` and `ssl` do so by themselves
    importlib.import_module("ray.serve._private.logging_utils").configure_default_serve_logger()  # it names the pid
    script = start.arguments[0]
    sys.argv = list(start.arguments)
    sys.path.insert(0, os.path.dirname(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
