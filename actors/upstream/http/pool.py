"""Connections to the servers of one upstream, reused while that is safe, and calls over them.

A connection carries one call at a time. It is kept for the next one if the response was complete, both sides keep it
alive, and nothing more has arrived on it; else it is closed.
"""

from collections.abc import Awaitable, Callable
from functools import lru_cache
from types import TracebackType
from typing import Self

import trio

from actors.upstream.http.address import Address
from actors.upstream.http.errors import ConnectError, ConnectionLostError, InvalidResponseError
from actors.upstream.http.response_parser import ResponseParser
from actors.upstream.http.stream import READ_BYTES, ByteStream

Connect = Callable[[Address], Awaitable[ByteStream]]


class ConnectionPool:
    """Idle connections by origin. `keep`: at most so many of all origins, each for `idle_s` seconds."""

    def __init__(
        self, connect: Connect, *, keep: int, idle_s: float, connect_s: float, clock: Callable[[], float]
    ) -> None:
        """`connect_s`: limit for a connection with its TLS, and again for each piece of a request. `clock`: trio's."""
        self._connect = connect
        self.connect_s = connect_s
        self._keep = keep
        self._idle_s = idle_s
        self.clock = clock
        self._idle: list[tuple[tuple[bool, str, int], float, ByteStream]] = []
        """(origin, idle since, connection), the longest idle first."""

    def kept(self, address: Address) -> ByteStream | None:
        """An idle connection that is still good, the last used first; None: there is none."""
        if self._idle:
            self._drop_expired(self.clock())
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0] == address.origin:
                stream = self._idle.pop(index)[2]
                if not stream.has_unread():
                    return stream
                stream.close()
        return None

    async def connect(self, address: Address) -> ByteStream:
        """A new connection. Raises ConnectError."""
        try:
            with trio.fail_after(self.connect_s):
                return await self._connect(address)
        except trio.TooSlowError:
            raise ConnectError(f"no connection within {self.connect_s:g} s") from None

    def give_back(self, address: Address, stream: ByteStream) -> None:
        """Keep a connection for the next call."""
        now = self.clock()
        self._drop_expired(now)
        self._idle.append((address.origin, now, stream))
        while len(self._idle) > self._keep:
            self._idle.pop(0)[2].close()

    def close(self) -> None:
        """Close the idle connections."""
        for _, _, stream in self._idle:
            stream.close()
        self._idle.clear()

    def _drop_expired(self, now: float) -> None:
        until = now - self._idle_s
        while self._idle and self._idle[0][1] < until:
            self._idle.pop(0)[2].close()


class Call:
    """One request and its response: `async with Call(...)` sends the request and waits for the response's head.

    Raises HttpCallError. When the context ends before the response does, the connection is closed at once.
    """

    def __init__(self, pool: ConnectionPool, address: Address, lines: bytes, body: bytes) -> None:
        """`lines`: header lines beside Host and Content-Length."""
        self._pool = pool
        self._address = address
        self._data = b"%bContent-Length: %d\r\n\r\n%b" % (_head(address, lines), len(body), body)
        self._parser = ResponseParser()
        self.response = self._parser.response
        """Its status, headers, and whether it is complete."""
        self._stream: ByteStream | None = None
        self._first = b""
        """Of the body: what arrived with the head."""
        self._heard = False
        """A byte of the response has arrived."""
        self._broken: InvalidResponseError | None = None
        """To be raised by the next read: what is no response came after the last bytes of the body."""

    async def read(self) -> bytes:
        """The next bytes of the body: all that has arrived. b"": the body is complete. Raises ConnectionLostError."""
        data, self._first = self._first, b""
        if self._broken is not None:
            raise self._broken
        while not data and not self.response.complete:
            try:
                data = await self._receive()
            except InvalidResponseError as error:
                if not error.body:
                    raise
                self._broken, data = error, error.body
        return data

    async def read_each(self, take: Callable[[bytes], bool]) -> None:
        """Call `take` with the body's bytes, as they arrive, until it returns False or the body is complete.

        Raises ConnectionLostError, and what `take` raises.
        """
        data, self._first = self._first, b""
        if (data and not take(data)) or self.response.complete:
            return

        def received(data: bytes) -> bool:
            try:
                body = self._parser.feed(data)
            except InvalidResponseError as error:
                take(error.body)
                raise
            return (not body or take(body)) and not self.response.complete

        assert self._stream is not None
        try:
            await self._stream.receive_each(received)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLostError(_RESET) from None

    async def __aenter__(self) -> Self:
        kept = self._pool.kept(self._address)
        if kept is None or not await self._sent_on(kept):
            await self._begin(await self._pool.connect(self._address))
        self._data = b""
        return self

    async def _sent_on(self, kept: ByteStream) -> bool:
        """Whether the server still read from a connection that was idle. Raises HttpCallError.

        False: it was closed at once and without a byte, as a server closes what has been idle. A request is then sent a
        second time, on a new connection, though a POST is not idempotent (RFC 9110, section 9.2.2): all that an answer
        made twice would change is its cost. A server that takes its time has read the request, and is not asked again.
        """
        until = self._pool.clock() + min(_CLOSING_S, self._pool.connect_s / 2)
        try:
            await self._begin(kept)
        except ConnectionLostError:
            if self._heard or self._pool.clock() > until:
                raise
            return False
        return True

    async def _begin(self, stream: ByteStream) -> None:
        """Send the request, and receive the head."""
        self._stream = stream
        try:
            await self._send()
            while not self.response.status:
                self._first += await self._receive()
        except BaseException:
            stream.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._stream is not None
        if self.response.reusable:
            self._pool.give_back(self._address, self._stream)
        else:
            self._stream.close()

    async def _send(self) -> None:
        assert self._stream is not None
        try:
            left = memoryview(self._data)[self._stream.send_now(self._data) :]
            while left:
                # A long request takes its time on a slow line: the limit is for each piece of it.
                with trio.fail_after(self._pool.connect_s):
                    await self._stream.send_all(bytes(left[:_PIECE_BYTES]))
                left = left[_PIECE_BYTES:]
        except trio.TooSlowError:
            raise ConnectionLostError("the request was not read in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A server may answer and close before it has read the whole request: its answer counts.
            pass

    async def _receive(self) -> bytes:
        assert self._stream is not None
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ConnectionLostError(_RESET) from None
        self._heard = self._heard or bool(data)
        return self._parser.feed(bytes(data))


_PIECE_BYTES = 16 * 1024
_CLOSING_S = 1.0
"""Half of the time limit for sending, where that is less: a request that is not read in time is not sent again."""
_RESET = "the connection was reset"


@lru_cache(maxsize=1024)
def _head(address: Address, lines: bytes) -> bytes:
    """The beginning of a request."""
    return b"POST %b HTTP/1.1\r\nHost: %b\r\n%b" % (address.target.encode(), address.authority.encode(), lines)
