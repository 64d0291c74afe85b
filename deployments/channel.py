"""A caller's connection to one replica, and the calls on their way to it."""

import asyncio
import itertools

from deployments.frames import Frames, Kind, SocketAddress, tcp_socket
from deployments.messages import MAX_MESSAGE_BYTES, TOO_LARGE
from deployments.seal import seal
from models.errors import PayloadTooLarge

FINISH_S = 60.0


class Left(Exception):
    """The replica takes no more calls; this one it has not begun."""


class Gone(Exception):
    """The connection was lost, or the call without a reply; nobody knows how far it came."""


class Channel(Frames):
    """Calls a replica."""

    def __init__(self) -> None:
        super().__init__(MAX_MESSAGE_BYTES)
        self._replies: dict[int, asyncio.Future[bytes | bytearray]] = {}
        self._numbers = itertools.count()

    @classmethod
    async def open(cls, target: SocketAddress, secret: bytes = b"") -> "Channel":
        """Connect, and say that the secret is known, where there is one. Raises OSError."""
        loop = asyncio.get_running_loop()
        if isinstance(target, str):
            _, channel = await loop.create_unix_connection(cls, target)
        else:
            connection = tcp_socket(target[0])
            try:
                await loop.sock_connect(connection, target)
                _, channel = await loop.create_connection(cls, sock=connection)
            except BaseException:
                connection.close()
                raise
        if secret:
            channel.send(Kind.GREETING, 0, seal(secret, None))
        return channel

    async def call(self, body: bytes) -> bytes | bytearray:
        """Send a call, and wait for its reply. Raises Left, Gone, or PayloadTooLarge."""
        if not self.is_open:
            raise Left
        if len(body) > MAX_MESSAGE_BYTES:
            raise PayloadTooLarge(TOO_LARGE)
        number = next(self._numbers) % 2**32
        reply: asyncio.Future[bytes | bytearray] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        self.send(Kind.CALL, number, body)
        try:
            return await reply
        except asyncio.CancelledError:
            if self.is_stuck:  # it will not take the next call either, and this one would stay in memory
                self.abort()
            self.send(Kind.CANCEL, number)
            raise
        finally:
            self._replies.pop(number, None)

    async def finish(self) -> None:
        """End the connection once what is on its way has been answered, or after a minute."""
        await self.end_after(self._replies.values(), FINISH_S)

    def received(self, kind: int, number: int, body: bytes | bytearray) -> None:
        """A reply came, to a call that somebody may have given up meanwhile."""
        reply = self._replies.get(number)
        if reply is None or reply.done():
            return
        if kind == Kind.REPLY:
            reply.set_result(body)
        else:
            reply.set_exception(Left() if kind == Kind.LEAVING else Gone())

    def lost(self) -> None:
        """Nothing that is on its way will be answered."""
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(Gone())
