"""Connections are used again only when that is safe, and a call leaves none behind."""

from collections.abc import Callable, Sequence

import pytest
import trio

from actors.upstream.http.address import Address, address
from actors.upstream.http.errors import ConnectError, ConnectionLostError
from actors.upstream.http.pool import Call, ConnectionPool
from actors.upstream.http.stream import receive_each

HERE, THERE = address("http://here/v1", "/x"), address("http://there/v1", "/x")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSES = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


class Scripted:
    """A connection whose server says the same to each request, in pieces."""

    def __init__(self, pieces: Sequence[bytes | None]) -> None:
        """None: silence."""
        self.pieces = pieces
        self.left = iter(pieces)
        self.sent: list[bytes] = []
        self.closed = False
        self.unread = False

    def send_now(self, data: bytes) -> int:
        return 0

    async def send_all(self, data: bytes) -> None:
        self.sent.append(data)
        self.left = iter(self.pieces)
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        piece = next(self.left, b"")
        if piece is None:
            await trio.sleep_forever()
        assert piece is not None
        return piece

    async def receive_each(self, take: Callable[[bytes], bool]) -> None:
        await receive_each(self, take)

    def close(self) -> None:
        self.closed = True

    def has_unread(self) -> bool:
        return self.unread


class World:
    def __init__(self, *pieces: bytes | None, keep: int = 2) -> None:
        self.pieces = pieces
        self.made: list[Scripted] = []
        self.pool = ConnectionPool(self.connect, keep=keep, idle_s=4.0, connect_s=1.0, clock=trio.current_time)

    async def connect(self, _: Address) -> Scripted:
        await trio.lowlevel.checkpoint()
        self.made.append(Scripted(self.pieces))
        return self.made[-1]

    async def ask(self, to: Address = HERE) -> bytes:
        body = b""
        async with Call(self.pool, to, b"A: b\r\n", b"{}") as call:
            while data := await call.read():
                body += data
        return body


async def test_a_request_and_its_response() -> None:
    world = World(OK[:20], OK[20:])
    assert await world.ask() == b"ok"
    assert world.made[0].sent == [b"POST /v1/x HTTP/1.1\r\nHost: here\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"]


@pytest.mark.parametrize(("answer", "connections"), [(OK, 1), (CLOSES, 3), (OK + b"more", 3)])
async def test_a_connection_is_used_again(answer: bytes, connections: int) -> None:
    world = World(answer)
    for _ in range(3):
        assert await world.ask() == b"ok"
    assert len(world.made) == connections
    world.pool.close()
    assert all(each.closed for each in world.made)


async def test_never_one_of_another_server() -> None:
    world = World(OK)
    for to in (HERE, THERE, HERE, THERE):
        await world.ask(to)
    assert [len(each.sent) for each in world.made] == [2, 2]


async def test_one_on_which_something_arrived_is_closed() -> None:
    world = World(OK)
    await world.ask()
    world.made[0].unread = True
    await world.ask()
    assert [each.closed for each in world.made] == [True, False]


async def test_idle_ones_are_few_and_young(autojump_clock: trio.testing.MockClock) -> None:
    world = World(OK, keep=2)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(world.ask)
    assert [each.closed for each in world.made].count(True) == 1
    await trio.sleep(4.1)
    await world.ask()
    assert len(world.made) == 4
    assert [each.closed for each in world.made] == [True, True, True, False]


@pytest.mark.parametrize("pieces", [(OK[:30], None), (None,), (OK[:-1], None)])
async def test_whoever_leaves_closes_it(
    autojump_clock: trio.testing.MockClock, pieces: tuple[bytes | None, ...]
) -> None:
    world = World(*pieces)
    with trio.move_on_after(1):
        await world.ask()
    assert world.made[0].closed
    world.pool.close()


@pytest.mark.parametrize("pieces", [(), (OK[:10],), (OK[:-1],)])
async def test_an_end_too_early(pieces: tuple[bytes, ...]) -> None:
    world = World(*pieces)
    with pytest.raises(ConnectionLostError):
        await world.ask()
    assert world.made[0].closed


async def test_limits_of_time(autojump_clock: trio.testing.MockClock) -> None:
    world = World(OK)

    async def never(_: object) -> None:
        await trio.sleep_forever()

    world.pool = ConnectionPool(never, keep=1, idle_s=1.0, connect_s=3.0, clock=trio.current_time)  # type: ignore[arg-type]
    with pytest.raises(ConnectError):
        await world.ask()
    assert trio.current_time() == pytest.approx(3.0, abs=0.01)
    world = World(OK)
    await world.ask()
    world.made[0].send_all = never  # type: ignore[assignment]
    with pytest.raises(ConnectionLostError, match="not read in time"):
        await world.ask()
    assert world.made[0].closed


async def test_a_long_request_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    """Each piece has the limit for itself; a server that takes nothing more is left."""
    world = World(OK)
    await world.ask()
    taken: list[bytes] = []

    async def slowly(data: bytes) -> None:
        await trio.sleep(0.9 if len(taken) < 20 else 1.1)
        taken.append(data)
        world.made[0].left = iter(world.pieces)

    world.made[0].send_all = slowly  # type: ignore[method-assign]
    body = bytes(range(256)) * 1024
    async with Call(world.pool, HERE, b"A: b\r\n", body):
        assert b"".join(taken).endswith(body)
    assert trio.current_time() > 10
    with pytest.raises(ConnectionLostError, match="not read in time"):
        async with Call(world.pool, HERE, b"A: b\r\n", body):
            pass


@pytest.mark.parametrize(
    ("first", "after_s", "again"),
    [
        # The server closed the connection while it was idle, or before it read the request.
        (b"", 0.0, True),
        (None, 0.0, True),
        # It has begun to answer, or has worked on it.
        (OK[:10], 0.0, False),
        (b"", 0.6, False),
    ],
)
async def test_one_that_is_closed_before_a_byte_is_replaced_once(
    autojump_clock: trio.testing.MockClock, first: bytes | None, after_s: float, again: bool
) -> None:
    """`first`: what arrives before the end; None: a reset."""
    world = World(OK)
    await world.ask()
    said = iter([first or b"", b""])

    async def receive(_: int) -> bytes:
        await trio.sleep(after_s)
        if first is None:
            raise trio.BrokenResourceError
        return next(said)

    world.made[0].receive_some = receive  # type: ignore[method-assign]
    if again:
        assert await world.ask() == b"ok"
        assert [len(each.sent) for each in world.made] == [2, 1]
    else:
        with pytest.raises(ConnectionLostError):
            await world.ask()
        assert len(world.made) == 1
    assert world.made[0].closed
    world.pool.close()


async def test_a_new_connection_is_not_replaced(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    with pytest.raises(ConnectionLostError):
        await world.ask()
    assert len(world.made) == 1
