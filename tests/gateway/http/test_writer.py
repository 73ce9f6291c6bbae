"""The way out of a connection, on a pair of sockets whose buffers are small."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
import trio

from gateway.errors import ClientGone
from gateway.http.server import listen
from gateway.http.writer import SocketWriter
from tests.patience import PATIENCE_S

BIG = bytes(range(256)) * 4096


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield ours, theirs


async def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        await trio.lowlevel.wait_readable(sock)
        data += sock.recv(65536)
    return data


async def test_a_reader_that_takes_nothing_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], 0.05)
    with pytest.raises(ClientGone):
        await writer.send(BIG)
    assert writer.torn
    # Nothing may follow a half message.
    assert not writer.send_nowait(b"ping")


async def test_a_slow_reader_is_waited_for_and_gets_everything(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], PATIENCE_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, BIG)
        await trio.testing.wait_all_tasks_blocked()
        assert writer.waiting
        # A ping must not get between the parts of a message.
        assert not writer.send_nowait(b"ping")
        assert await read(pair[1], len(BIG)) == BIG
    assert not writer.torn


async def test_a_reader_slower_than_the_kernel_tells_is_waited_for(mock_clock: trio.testing.MockClock) -> None:
    """It takes a little all the time, but never a third of the buffer within the bound."""
    with listen("127.0.0.1", 0) as listener, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        theirs.setblocking(False)
        ours, _ = listener.accept()
        with ours:
            ours.setblocking(False)
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 512 * 1024
            writer = SocketWriter(ours, 0.4)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.send, BIG)
                for _ in range(60):
                    await trio.testing.wait_all_tasks_blocked()
                    mock_clock.jump(0.02)
                    with contextlib.suppress(BlockingIOError):
                        theirs.recv(2048)
                assert writer.waiting
                nursery.cancel_scope.cancel()


async def test_the_rest_of_a_ping_goes_before_what_follows(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], PATIENCE_S)
    assert writer.send_nowait(BIG)
    assert not writer.send_nowait(b"second ping")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, b"message")
        assert await read(pair[1], len(BIG) + 7) == BIG + b"message"


async def test_a_peer_that_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], PATIENCE_S)
    pair[1].close()
    with pytest.raises(ClientGone):
        await writer.send(b"x")
    assert not writer.send_nowait(b"ping")


async def test_others_have_a_turn_although_no_send_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    writer = SocketWriter(pair[0], PATIENCE_S)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(64):
            await writer.send(b"x")
        nursery.cancel_scope.cancel()
    assert turns >= 3


async def test_what_the_kernel_does_not_take_at_once_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], PATIENCE_S)
    assert writer.send_or_keep(b"a")
    assert writer.is_ready()
    assert not writer.send_or_keep(BIG)
    assert not writer.is_ready()
    assert not writer.send_nowait(b"ping")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.flush)
        assert await read(pair[1], 1 + len(BIG)) == b"a" + BIG
    assert writer.is_ready()
    await writer.flush()
    await writer.send(b"b")
    assert await read(pair[1], 1) == b"b"


async def test_a_client_that_left_is_noticed_by_the_next_send(pair: tuple[socket.socket, socket.socket]) -> None:
    writer = SocketWriter(pair[0], PATIENCE_S)
    pair[1].close()
    assert not writer.send_or_keep(b"a")
    with pytest.raises(ClientGone):
        await writer.flush()
