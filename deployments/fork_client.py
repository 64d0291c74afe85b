"""How a process that Ray starts has itself replaced by a fork (deployments/fork_server.py), before it imports anything.

Whoever starts needs this, so it takes nothing but the standard library.
"""

import array
import fcntl
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
from pathlib import Path

ACCEPTED = b"y"
"""What a fork says that takes over. Whoever hears nothing goes on by itself."""

WAIT_S = 20.0
"""How long the server may take to import everything; on two full cores it is a few seconds."""

_WORKER = "/default_worker.py"
_RAYLET = "--raylet-name="
_SIZE = struct.Struct("!I")
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Start:
    """How Ray started a process: its arguments from the script on, its environment, where it runs."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    directory: str


def hand_over(command: Sequence[str]) -> None:
    """End this process, for which a fork goes on; or return where there can be none, to go on as ever.

    `command` is what Ray started. The first one of a raylet starts the server.
    """
    address = _address(command)
    if address is None or _refused(address).exists():
        return
    with suppress(OSError), _connect(address) as connection:
        send(connection, Start(list(command[1:]), dict(os.environ), os.getcwd()))
        if connection.recv(1) == ACCEPTED:
            os._exit(0)


def refuse(address: str, reason: str) -> None:
    """Tell all that come later to go on by themselves."""
    _refused(address).write_text(reason)


def send(connection: socket.socket, start: Start) -> None:
    """Send how a process was started, and its input, output and error stream. Raises OSError."""
    body = json.dumps(asdict(start)).encode()
    descriptors = array.array("i", [0, 1, 2])
    connection.sendmsg([_SIZE.pack(len(body))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Start, list[int]]:
    """Read what was sent. Raises OSError, ValueError or TypeError where it is not that."""
    head, descriptors, _, _ = socket.recv_fds(connection, _SIZE.size, 3)
    with connection.makefile("rb") as file:
        body = file.read(_SIZE.unpack(head)[0])
    return Start(**json.loads(body)), descriptors


def is_ours(connection: socket.socket) -> bool:
    """Whether the same user is at the other end."""
    credentials = struct.Struct("3i")
    _, user, _ = credentials.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))
    return bool(user == os.getuid())


def _address(command: Sequence[str]) -> str | None:
    """The server's socket, beside that of the raylet; None where this is no Linux, or not how Ray starts a process."""
    if sys.platform != "linux" or not any(word.endswith(_WORKER) for word in command[1:2]):
        return None
    raylets = [argument.removeprefix(_RAYLET) for argument in command if argument.startswith(_RAYLET)]
    return f"{raylets[0]}.fork" if raylets else None


def _refused(address: str) -> Path:
    return Path(f"{address}.refused")


def _connect(address: str) -> socket.socket:
    """Connect to the server, which is started where there is none. Raises OSError where that fails."""
    deadline, has_started = time.monotonic() + WAIT_S, False
    while not _refused(address).exists() and time.monotonic() < deadline:
        connection = socket.socket(socket.AF_UNIX)
        with suppress(FileNotFoundError, ConnectionRefusedError):
            connection.connect(address)
            if not is_ours(connection):
                break
            return connection
        connection.close()
        if _start_server(address, only_look=has_started):
            if has_started:
                break  # it has ended again
            has_started = True
        time.sleep(_POLL_S)
    raise ConnectionRefusedError(address)


def _start_server(address: str, only_look: bool) -> bool:
    """Start a server where none lives, which holds a lock while it does; whether there was none."""
    lock = os.open(f"{address}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not only_look:
            command = [sys.executable, "-P", "-m", "deployments.fork_server", address, str(lock)]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[lock])
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
