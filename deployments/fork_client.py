"""How a process that Ray starts has itself replaced by a fork (deployments/fork_server.py), before it imports anything.

Whoever starts needs this, so it takes nothing but the standard library.
"""

import array
import fcntl
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

READY = b"r"
"""What a fork says that could go on from here."""

TAKE_OVER = b"t"
"""What it is told then, by whom it goes on for. If that hears nothing it goes on by itself, and the fork must not."""

WAIT_S = 20.0
"""How long the server may take to import everything; on two full cores it is a few seconds."""

ANSWER_S = 5.0
"""How long either side waits for the other's word."""

NO_JOB = {"RAY_JOB_ID": "f" * 8}
"""Ray reads its job when it is imported, so that of the server is that of all forks. With none a process fits every
job: Ray gives it one with its first task."""

_RAYLET = "--raylet-name="
_KILLS_ORPHANS = "RAY_kill_child_processes_on_worker_exit_with_raylet_subreaper"
_LENGTH_BYTES = 4
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Start:
    """How Ray started a process: which Python, the script with its arguments, the environment, where it runs."""

    executable: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str


def hand_over(command: Sequence[str]) -> None:
    """End this process, for which a fork goes on; or return where there can be none, to go on as ever.

    `command` is what Ray started. The first one of a raylet starts the server.
    """
    flags = list(itertools.takewhile(lambda word: word.startswith("-"), command[1:]))
    arguments = command[1 + len(flags) :]
    address = _address(arguments)
    if address is not None:
        with suppress(OSError):
            start = Start(sys.executable, arguments, dict(os.environ), os.getcwd())
            with _connect(address, flags) as connection:
                send(connection, start)
                if connection.recv(1) == READY:
                    connection.sendall(TAKE_OVER)
                    os._exit(0)


def refuse(address: str, reason: str) -> None:
    """Tell all that come later to go on by themselves. Raises OSError."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
    with os.fdopen(os.open(_refusal(address), flags, 0o600), "w") as file:
        file.write(reason)


def send(connection: socket.socket, start: Start) -> None:
    """Send how a process was started, and its input, output and error stream. Raises OSError."""
    body = json.dumps(asdict(start)).encode()
    streams = array.array("i", [0, 1, 2])
    head = len(body).to_bytes(_LENGTH_BYTES, "big")
    connection.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Start, list[int]]:
    """Read what was sent. Raises OSError, ValueError or TypeError where it is not that."""
    head, streams, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, 3)
    try:
        with connection.makefile("rb") as file:
            body = file.read(int.from_bytes(head, "big"))
        return Start(**json.loads(body)), streams
    except BaseException:
        close(streams)
        raise


def close(descriptors: Sequence[int]) -> None:
    """Close them all."""
    for descriptor in descriptors:
        os.close(descriptor)


def is_ours(connection: socket.socket) -> bool:
    """Whether the same user is at the other end."""
    credentials = struct.Struct("3i")
    _, user, _ = credentials.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
    return bool(user == os.getuid())


def _address(arguments: Sequence[str]) -> str | None:
    """The server's socket, beside the raylet's; None without one, and where no fork would do."""
    if sys.platform != "linux" or os.environ.get(_KILLS_ORPHANS, "0") not in {"0", "false"}:
        return None
    raylets = [argument.removeprefix(_RAYLET) for argument in arguments if argument.startswith(_RAYLET)]
    return f"{raylets[0]}.fork" if raylets else None


def _refusal(address: str) -> str:
    return f"{address}.refused"


def _connect(address: str, flags: Sequence[str]) -> socket.socket:
    """Connect to the server, which is started where there is none. Raises OSError where that fails."""
    deadline, has_started = time.monotonic() + WAIT_S, False
    while not os.path.lexists(_refusal(address)) and time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(ANSWER_S)
        with suppress(FileNotFoundError, ConnectionRefusedError):
            connection.connect(address)
            if is_ours(connection):
                return connection
        connection.close()
        lock = _lock(address)
        if lock is not None:
            with os.fdopen(lock):
                if has_started:
                    break  # it has ended again
                _start_server(address, lock, flags)
            has_started = True
        time.sleep(_POLL_S)
    raise ConnectionRefusedError(address)


def _lock(address: str) -> int | None:
    """The lock that a server has as long as it lives; None while one does. Raises OSError."""
    lock = os.open(f"{address}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(lock).st_uid != os.getuid():
            raise PermissionError(address)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return lock


def _start_server(address: str, lock: int, flags: Sequence[str]) -> None:
    """Start a server, which is no child of this process: that may have to go on by itself, and end before it."""
    command = [sys.executable, "-P", *flags, "-m", "deployments.fork_server", address, str(lock)]
    environment = {**os.environ, **NO_JOB}
    subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, pass_fds=[lock]).wait()
