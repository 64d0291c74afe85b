"""A caller's connection to one replica, and the calls on their way to it."""

import asyncio
import itertools

from deployments.frames import Frames, Kind, tcp_socket
from deployments.messages import MAX_MESSAGE_BYTES, TOO_LARGE
from deployments.seal import WrongSeal
from models.errors import PayloadTooLarge

FINISH_S = 60.0


class Left(Exception):
    """The replica takes no more calls; this one it has not begun."""


class Gone(Exception):
    """The connection was lost; nobody knows how far the call came."""


class Channel(Frames):
    """Calls a replica."""

    def __init__(self) -> None:
        super().__init__(MAX_MESSAGE_BYTES)
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count()

    @classmethod
    async def open(cls, target: str | tuple[str, int]) -> "Channel":
        """Connect to the path of a socket, or to a host and port. Raises OSError."""
        loop = asyncio.get_running_loop()
        if isinstance(target, str):
            return (await loop.create_unix_connection(cls, target))[1]
        connection = tcp_socket(target[0])
        try:
            await loop.sock_connect(connection, target)
            return (await loop.create_connection(cls, sock=connection))[1]
        except BaseException:
            connection.close()
            raise

    async def call(self, body: bytes) -> bytes:
        """Send a call, and wait for its reply. Raises Left, WrongSeal, Gone, or PayloadTooLarge."""
        if not self.is_open:
            raise Left
        if len(body) > MAX_MESSAGE_BYTES:
            raise PayloadTooLarge(TOO_LARGE)
        number = next(self._numbers) % 2**32
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self.send(Kind.CALL, number, body)
        try:
            return await reply
        except asyncio.CancelledError:
            self.send(Kind.CANCEL, number)
            raise
        finally:
            self._replies.pop(number, None)

    async def finish(self) -> None:
        """End the connection once what is on its way has been answered, or after a minute."""
        if self._replies:
            await asyncio.wait(self._replies.values(), timeout=FINISH_S)
        self.close()

    def received(self, kind: int, number: int, body: bytes) -> None:
        """A reply came, to a call that somebody may have given up meanwhile."""
        reply = self._replies.get(number)
        if reply is None or reply.done():
            return
        if kind == Kind.REPLY:
            reply.set_result(body)
        else:
            reply.set_exception(Left() if kind == Kind.LEAVING else WrongSeal())

    def lost(self) -> None:
        """Nothing that is on its way will be answered."""
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(Gone())
