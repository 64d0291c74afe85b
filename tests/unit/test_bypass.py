"""Calls past Ray Serve's handles: real sockets between a caller and replicas of one process."""

import asyncio
import contextlib
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import uvloop

from deployments.bypass import Bypass, Load, is_wanted
from deployments.bypass_server import Address, BypassServer
from deployments.channel import Channel, Gone, Left
from deployments.frames import HEAD, Kind
from deployments.messages import Reply
from deployments.seal import WrongSeal, seal, unseal
from models.errors import UNEXPECTED, Overloaded, PayloadTooLarge, TiltyardError

PERIOD_S = 0.2


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Replicas of Ray Serve run on uvloop; where that is not installed, on asyncio's own loop."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy() if request.param == "uvloop" else None)
    yield
    asyncio.set_event_loop_policy(None)


class Fleet:
    """Replicas that Ray Serve would choose from, one after the other; it counts what comes to whom."""

    def __init__(
        self, names: Sequence[str], predict: Callable[[Any], Awaitable[Any]], out_of_reach: Sequence[str] = ()
    ) -> None:
        self.out_of_reach = out_of_reach
        self.came: list[str] = []
        self.introduced = 0
        self.servers = {name: self._server(name, predict) for name in names}

    def _server(self, name: str, predict: Callable[[Any], Awaitable[Any]]) -> BypassServer:
        async def answer(item: Any) -> Reply:
            self.came.append(name)
            reply: Reply = await predict(item)
            return reply

        return BypassServer(answer, name, "here", "127.0.0.1")

    async def introduce(self, busy_s: float) -> AsyncIterator[Address | None]:
        self.introduced += 1
        name = list(self.servers)[self.introduced % len(self.servers)]
        yield None if name in self.out_of_reach else await self.servers[name].address("here")
        await asyncio.sleep(busy_s)

    async def ask(self, bypass: Bypass, item: Any) -> Any:
        """Ask past the handle; what goes through it is answered at once."""
        return await bypass.call((item,), self._through_handle)

    async def _through_handle(self) -> str:
        self.came.append("handle")
        return "handle"

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self.servers.values()))


async def echo(item: Any) -> Any:
    return item


class Held:
    """Answers as echo does, once it is let go."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def answer(self, item: Any) -> Any:
        await self.free.wait()
        return item


@contextlib.asynccontextmanager
async def known(fleet: Fleet, introductions: int = 1) -> AsyncIterator[Bypass]:
    """A caller that so many introductions were made to."""
    bypass = Bypass(fleet.introduce, PERIOD_S)
    for _ in range(introductions):
        await fleet.ask(bypass, "first")
        await asyncio.sleep(1.5 * PERIOD_S)
    fleet.came.clear()
    try:
        yield bypass
    finally:
        await fleet.close()  # uvloop waits for ever for a server that is open


def test_the_first_call_goes_through_the_handle_and_the_next_ones_past_it() -> None:
    async def scenario() -> None:
        fleet = Fleet(["one"], echo)
        bypass = Bypass(fleet.introduce, PERIOD_S)
        assert await fleet.ask(bypass, 1) == "handle"
        await asyncio.sleep(PERIOD_S)
        assert [await fleet.ask(bypass, item) for item in range(3)] == [0, 1, 2]
        assert fleet.came == ["handle", "one", "one", "one"]
        await fleet.close()

    asyncio.run(scenario())


def test_who_prepares_goes_past_the_handle_from_the_first_call_on() -> None:
    async def scenario() -> None:
        fleet = Fleet(["one"], echo)
        bypass = Bypass(fleet.introduce, PERIOD_S)
        bypass.prepare()
        bypass.prepare()
        await asyncio.sleep(0.5 * PERIOD_S)
        assert await fleet.ask(bypass, 1) == 1
        assert (fleet.came, fleet.introduced) == (["one"], 1)
        await fleet.close()

    asyncio.run(scenario())


def test_calls_that_wait_push_no_others_to_the_handle() -> None:
    async def scenario() -> None:
        held = Held()
        fleet = Fleet(["one"], held.answer)
        async with known(fleet) as bypass:
            asked = [asyncio.ensure_future(fleet.ask(bypass, item)) for item in range(40)]
            await asyncio.sleep(0.1)
            held.free.set()
            assert await asyncio.gather(*asked) == [*range(40)]

    asyncio.run(scenario())


def test_what_is_too_much_for_those_within_reach_goes_to_the_others_through_the_handle() -> None:
    async def scenario() -> None:
        held = Held()
        fleet = Fleet(["one", "far"], held.answer, out_of_reach=["far"])
        async with known(fleet) as bypass:
            while len(bypass._replicas) < 1 or bypass._refused_until < 0:
                bypass._ask()
                await asyncio.sleep(0.05)
            asked = [asyncio.ensure_future(fleet.ask(bypass, item)) for item in range(4)]
            await asyncio.sleep(0.1)
            held.free.set()
            assert await asyncio.gather(*asked) == [0, 1, "handle", "handle"]

    asyncio.run(scenario())


def test_the_least_busy_replica_is_called() -> None:
    async def scenario() -> None:
        held = Held()
        fleet = Fleet(["one", "two"], held.answer)
        bypass = Bypass(fleet.introduce, PERIOD_S)
        await fleet.ask(bypass, "first")
        await asyncio.sleep(0.1)
        asked = [asyncio.ensure_future(fleet.ask(bypass, item)) for item in range(2)]
        await asyncio.sleep(2 * PERIOD_S)  # Ray Serve is told of two calls, and names the other replica
        asked += [asyncio.ensure_future(fleet.ask(bypass, item)) for item in range(2)]
        await asyncio.sleep(0.1)
        held.free.set()
        await asyncio.gather(*asked)
        first, *others = dict.fromkeys(fleet.came[1:])
        assert fleet.came == ["handle", first, first, *others, *others]
        assert len(others) == 1
        await fleet.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("raised", "type_", "message"),
    [
        pytest.param(Overloaded("full"), Overloaded, "full", id="ours"),
        pytest.param(ZeroDivisionError("in /srv/secret.py"), TiltyardError, UNEXPECTED, id="a bug"),
    ],
)
def test_an_error_of_the_replica_is_raised_without_its_traceback(
    raised: Exception, type_: type[TiltyardError], message: str
) -> None:
    async def fail(item: Any) -> Any:
        raise raised

    async def scenario() -> None:
        fleet = Fleet(["one"], fail)
        async with known(fleet) as bypass:
            with pytest.raises(TiltyardError) as told:
                await fleet.ask(bypass, 1)
        assert type(told.value) is type_
        assert told.value.message == message

    asyncio.run(scenario())


class Mark:
    """Leaves a mark when it is unpickled."""

    left: ClassVar[list[str]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Mark.left.append, ("unpickled",)


def test_what_somebody_else_sealed_is_not_unpickled() -> None:
    assert unseal(b"ours", seal(b"ours", [1])) == [1]
    for forged in (seal(b"guessed", Mark()), b"", pickle.dumps(Mark())):
        with pytest.raises(WrongSeal):
            unseal(b"ours", forged)
    assert not Mark.left


GUESSED = seal(b"guessed", None)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD.pack(Kind.GREETING, 0, len(GUESSED)) + GUESSED, id="another secret"),
        pytest.param(HEAD.pack(Kind.CALL, 0, 1) + b"x", id="a call before the greeting"),
        pytest.param(HEAD.pack(Kind.CALL, 0, 65), id="much before the greeting"),
    ],
)
def test_a_stranger_is_cut_off(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.bypass_server.GREETING_S", 0.1)

    async def scenario() -> None:
        server = BypassServer(echo, "one", "here", "127.0.0.1")
        address = await server.address("there")
        assert address is not None
        reader, writer = await asyncio.open_connection(*address.target)
        writer.write(said)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_a_call_that_is_sealed_with_another_secret_is_not_answered() -> None:
    async def scenario() -> None:
        fleet = Fleet(["one"], echo)
        address = await fleet.servers["one"].address("there")
        assert address is not None
        channel = await Channel.open(address.target, address.secret)
        assert await channel.call(seal(address.secret, (1,)))
        with pytest.raises(Gone):
            await channel.call(seal(b"guessed", (2,)))
        assert fleet.came == ["one"]
        await fleet.close()

    asyncio.run(scenario())


def test_the_socket_is_for_nobody_else_and_goes_with_the_replica() -> None:
    async def scenario() -> None:
        server = BypassServer(echo, "one", "here", "127.0.0.1")
        address = await server.address("here")
        assert address is not None
        assert isinstance(address.target, str)
        directory = Path(address.target).parent
        assert directory.stat().st_mode & 0o077 == 0
        await server.close()
        assert not directory.exists()

    asyncio.run(scenario())


def test_calls_go_elsewhere_while_a_replica_leaves() -> None:
    async def scenario() -> None:
        fleet = Fleet(["one"], echo)
        async with known(fleet) as bypass:
            leaving = asyncio.ensure_future(fleet.close())
            await asyncio.sleep(0.1)
            assert not leaving.done()
            assert await fleet.ask(bypass, 1) == "handle"
            await leaving

    asyncio.run(scenario())


def test_a_call_that_a_stopping_server_gave_up_may_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.bypass_server.CLOSE_S", 0.0)

    async def hang(item: Any) -> Any:
        await asyncio.Event().wait()

    async def scenario() -> None:
        fleet = Fleet(["one"], hang)
        async with known(fleet) as bypass:
            asked = asyncio.ensure_future(fleet.ask(bypass, 1))
            await asyncio.sleep(0.1)
            await fleet.close()
            with pytest.raises(Gone):
                await asked
            assert await fleet.ask(bypass, 2) == "handle"

    asyncio.run(scenario())


def test_nobody_asks_again_at_once_where_there_is_no_way_past_the_handle() -> None:
    class Closed(Fleet):
        async def introduce(self, busy_s: float) -> AsyncIterator[Address | None]:
            self.introduced += 1
            yield None

    async def scenario() -> None:
        fleet = Closed(["one"], echo)
        bypass = Bypass(fleet.introduce, PERIOD_S)
        for _ in range(5):
            assert await fleet.ask(bypass, 1) == "handle"
            await asyncio.sleep(0.02)
        assert fleet.introduced == 1

    asyncio.run(scenario())


def test_a_replica_that_is_gone_is_called_no_more() -> None:
    async def scenario() -> None:
        fleet = Fleet(["one"], echo)
        async with known(fleet) as bypass:
            await fleet.close()
            assert await fleet.ask(bypass, 1) == "handle"

    asyncio.run(scenario())


def test_a_replica_that_is_put_away_finishes_what_is_under_way() -> None:
    async def slow(item: Any) -> Any:
        await asyncio.sleep(0.2)
        return item

    async def scenario() -> None:
        fleet = Fleet(["one"], slow)
        async with known(fleet) as bypass:
            asked = asyncio.ensure_future(fleet.ask(bypass, "answered"))
            await asyncio.sleep(0.1)
            await fleet.close()
            assert await asked == "answered"

    asyncio.run(scenario())


def test_a_caller_that_goes_stops_its_call() -> None:
    async def scenario() -> None:
        stopped = asyncio.Event()

        async def hang(item: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                stopped.set()
                raise

        fleet = Fleet(["one"], hang)
        async with known(fleet) as bypass:
            asked = asyncio.ensure_future(fleet.ask(bypass, 1))
            await asyncio.sleep(0.1)
            asked.cancel()
            async with asyncio.timeout(2):
                await stopped.wait()

    asyncio.run(scenario())


def test_ray_serve_is_told_of_as_many_calls_as_are_under_way() -> None:
    async def scenario() -> None:
        held = Held()
        fleet = Fleet(["one"], held.answer)
        async with known(fleet) as bypass:
            before, began = fleet.introduced, time.monotonic()
            asked = [asyncio.ensure_future(fleet.ask(bypass, item)) for item in range(3)]
            await asyncio.sleep(5.5 * PERIOD_S)
            held.free.set()
            await asyncio.gather(*asked)
            periods = (time.monotonic() - began) / PERIOD_S  # more on a busy machine, which has fewer of them counted
            assert 2 * 5 < fleet.introduced - before <= 3 * periods

    asyncio.run(scenario())


def test_the_load_is_an_average_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("deployments.bypass.time.monotonic", lambda: now)
    load = Load()
    now = 1.0
    load.add(2)
    now = 4.0
    load.add(-2)
    assert load.mean() == pytest.approx(2 * 3 / 4)
    now = 5.0
    assert load.mean() == 0


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_000])
def test_messages_of_any_size_arrive_whole_and_with_whoever_asked(size: int) -> None:
    async def slower_first(item: Any) -> Any:
        await asyncio.sleep(0.1 if item[0] == 0 else 0)
        return item

    async def scenario() -> None:
        fleet = Fleet(["one"], slower_first)
        async with known(fleet) as bypass:
            items = [(number, bytes([number]) * size) for number in range(4)]
            assert await asyncio.gather(*(fleet.ask(bypass, item) for item in items)) == items
        assert fleet.came == ["one"] * 4

    asyncio.run(scenario())


def test_a_message_that_is_too_large_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.channel.MAX_MESSAGE_BYTES", 2000)
    monkeypatch.setattr("deployments.bypass_server.MAX_MESSAGE_BYTES", 1000)

    async def double(item: Any) -> Any:
        return item * 2

    async def scenario() -> None:
        fleet = Fleet(["one"], double)
        async with known(fleet) as bypass:
            for item in (b"to" * 1500, b"from" * 200):
                with pytest.raises(PayloadTooLarge):
                    await fleet.ask(bypass, item)
            assert await fleet.ask(bypass, b"small") == b"small" * 2
        assert fleet.came == ["one"] * 2

    asyncio.run(scenario())


def test_who_announces_more_than_may_come_is_cut_off_before_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.bypass_server.MAX_MESSAGE_BYTES", 1000)

    async def scenario() -> None:
        server = BypassServer(echo, "one", "here", "127.0.0.1")
        address = await server.address("here")
        assert address is not None
        assert isinstance(address.target, str)
        reader, writer = await asyncio.open_unix_connection(address.target)
        writer.write(HEAD.pack(Kind.CALL, 0, 1001))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await server.close()

    asyncio.run(scenario())


def test_a_call_that_ends_without_a_reply_may_be_sent_again() -> None:
    async def give_up(item: Any) -> Any:
        raise asyncio.CancelledError

    async def scenario() -> None:
        fleet = Fleet(["one"], give_up)
        async with known(fleet) as bypass, asyncio.timeout(5):
            with pytest.raises(Gone):
                await fleet.ask(bypass, 1)

    asyncio.run(scenario())


def test_a_replica_that_is_put_away_sends_a_large_reply_to_its_end() -> None:
    async def large(item: Any) -> Any:
        await asyncio.sleep(0.2)
        return bytes(20_000_000)

    async def scenario() -> None:
        fleet = Fleet(["one"], large)
        async with known(fleet) as bypass:
            asked = asyncio.ensure_future(fleet.ask(bypass, "large"))
            await asyncio.sleep(0.1)
            await fleet.close()
            assert asked.done()
            assert len(await asked) == 20_000_000

    asyncio.run(scenario())


class Deaf:
    """Listens, and reads nothing."""

    def __init__(self, path: Path) -> None:
        self.target = str(path / "deaf")

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_unix_server(self._ignore, self.target)
        return self.target

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._transport.abort()
        await asyncio.sleep(0.1)

    async def _ignore(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transport = writer.transport
        self._transport.pause_reading()  # type: ignore[attr-defined]


def test_what_waits_for_a_replica_that_reads_nothing_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.frames.STUCK_S", 0.1)

    async def scenario() -> None:
        async with Deaf(tmp_path) as target:
            channel = await Channel.open(target)
            others = asyncio.ensure_future(channel.call(b"small"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await channel.call(bytes(2_000_000))
            with pytest.raises(Gone):
                await others
            with pytest.raises(Left):
                await channel.call(b"next")

    asyncio.run(scenario())


def test_a_connection_ends_though_nobody_reads_what_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.frames.FLUSH_S", 0.1)
    monkeypatch.setattr("deployments.channel.FINISH_S", 0.1)

    async def scenario() -> None:
        async with Deaf(tmp_path) as target:
            channel = await Channel.open(target)
            asked = asyncio.ensure_future(channel.call(bytes(2_000_000)))
            await asyncio.sleep(0.1)
            async with asyncio.timeout(5):
                await channel.finish()
                with pytest.raises(Gone):
                    await asked

    asyncio.run(scenario())


@pytest.mark.parametrize(("tls", "offered"), [("0", True), ("1", False)])
def test_another_node_gets_an_address_that_it_can_reach(
    tls: str, offered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USE_TLS", tls)

    async def scenario() -> None:
        server = BypassServer(echo, "one", "here", "127.0.0.1")
        near, far = await server.address("here"), await server.address("there")
        assert near is not None
        assert (far is not None) is offered
        if far is not None:
            assert far.target[0] == "127.0.0.1"
            channel = await Channel.open(far.target, far.secret)
            assert unseal(far.secret, await channel.call(seal(far.secret, ("hello",)))) == "hello"
            channel.close()
        await server.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("bypass", "optimized", "wanted"), [("1", "1", True), ("1", "0", False), ("0", "1", False), ("", "", False)]
)
def test_it_is_used_where_it_is_wanted_and_ray_serve_runs_on_our_loop(
    bypass: str, optimized: str, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILTYARD_BYPASS", bypass)
    monkeypatch.setenv("RAY_SERVE_THROUGHPUT_OPTIMIZED", optimized)
    assert is_wanted() is wanted
