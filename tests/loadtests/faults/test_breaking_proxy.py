"""The proxy over real sockets: every way to break it, and all is well again afterwards."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from loadtests.faults.breaking_proxy import BreakingProxy
from loadtests.model.errors import RunError
from loadtests.model.faults import FaultSettings, ProxySettings

FAULT = partial(FaultSettings, kind="proxy", at=0.0, lasts=1.0, proxy="way")


async def echo(stream: trio.SocketStream) -> None:
    try:
        while data := await stream.receive_some():
            await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


class Way:
    """A proxy, and clients of it, which are closed at the end."""

    def __init__(self, proxy: BreakingProxy, stack: AsyncExitStack) -> None:
        self.proxy = proxy
        self._stack = stack

    async def connect(self) -> trio.SocketStream:
        return await self._stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", self.proxy.port))


@asynccontextmanager
async def proxied(**settings: object) -> AsyncIterator[Way]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        to = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        proxy = BreakingProxy("way", ProxySettings(listen="127.0.0.1:0", to=to, **settings), nursery)
        await proxy.open()
        async with AsyncExitStack() as stack:
            yield Way(proxy, stack)
        nursery.cancel_scope.cancel()


async def ask(stream: trio.SocketStream, data: bytes = b"hello") -> bytes:
    """What came back, to its length or to the end."""
    await stream.send_all(data)
    received = b""
    while len(received) < len(data) and (part := await stream.receive_some()):
        received += part
    return received


async def test_it_passes_on() -> None:
    async with proxied() as way:
        stream = await way.connect()
        assert await ask(stream, b"x" * 300_000) == b"x" * 300_000
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_refuse_keeps_what_is_open_and_ends() -> None:
    async with proxied() as way:
        stream = await way.connect()
        assert await ask(stream) == b"hello"
        way.proxy.break_by(FAULT(mode="refuse"))
        await trio.testing.wait_all_tasks_blocked()  # the socket is closed in another task
        with pytest.raises(OSError, match="connect"):
            await way.connect()
        assert await ask(stream) == b"hello"
        await way.proxy.mend()
        assert await ask(await way.connect()) == b"hello"


async def test_reset_ends_what_is_open() -> None:
    async with proxied() as way:
        stream = await way.connect()
        assert await ask(stream) == b"hello"
        way.proxy.break_by(FAULT(mode="reset"))
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await way.proxy.mend()
        assert await ask(await way.connect()) == b"hello"


async def test_stall_holds_back_and_loses_nothing() -> None:
    async with proxied() as way:
        stream = await way.connect()
        way.proxy.break_by(FAULT(mode="stall"))
        await stream.send_all(b"hello")
        with trio.move_on_after(0.2) as waited:
            await stream.receive_some()
        assert waited.cancelled_caught
        await way.proxy.mend()
        assert await stream.receive_some() == b"hello"


async def test_cut_ends_each_after_its_bytes() -> None:
    async with proxied() as way:
        streams = [await way.connect() for _ in range(2)]
        assert await ask(streams[0], b"before the fault") == b"before the fault"
        way.proxy.break_by(FAULT(mode="cut", after_bytes=3))
        for stream in streams:
            assert await ask(stream) == b"hel"
        await way.proxy.mend()
        assert await ask(await way.connect()) == b"hello"


async def test_a_drip_brings_all_in_pieces() -> None:
    async with proxied() as way:
        stream = await way.connect()
        way.proxy.break_by(FAULT(mode="drip", bytes_a_second=200))
        await stream.send_all(b"x" * 100_000)
        first = await stream.receive_some()
        assert 0 < len(first) <= 100
        await way.proxy.mend()
        received = len(first)
        while received < 100_000:
            received += len(await stream.receive_some())


async def test_no_more_connections_than_allowed() -> None:
    async with proxied(connections=1) as way:
        stream = await way.connect()
        assert await ask(stream) == b"hello"
        other = await way.connect()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await other.receive_some()
        assert await ask(stream) == b"hello"


async def test_no_server_behind_it_is_a_reset(nursery) -> None:
    proxy = BreakingProxy("way", ProxySettings(listen="127.0.0.1:0", to="127.0.0.1:1"), nursery)
    await proxy.open()
    async with AsyncExitStack() as stack:
        stream = await Way(proxy, stack).connect()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    proxy.close()


async def test_a_taken_port_is_said(nursery) -> None:
    proxy = BreakingProxy("way", ProxySettings(listen="127.0.0.1:0", to="127.0.0.1:1"), nursery)
    await proxy.open()
    second = BreakingProxy("second", ProxySettings(listen=f"127.0.0.1:{proxy.port}", to="127.0.0.1:1"), nursery)
    with pytest.raises(RunError, match="second cannot listen"):
        await second.open()
    proxy.close()


async def test_closing_ends_connections_and_tasks() -> None:
    async with proxied() as way, trio.open_nursery() as nursery:
        proxy = BreakingProxy("second", ProxySettings(listen="127.0.0.1:0", to=f"127.0.0.1:{way.proxy.port}"), nursery)
        await proxy.open()
        async with AsyncExitStack() as stack:
            stream = await Way(proxy, stack).connect()
            assert await ask(stream) == b"hello"
            proxy.close()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        # The nursery ends by itself: no task is left.
