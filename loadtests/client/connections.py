"""Opens connections to the one server of a run, and keeps idle ones of each tenant for its next requests."""

import contextlib
import os
import socket
import ssl
import time
from array import array
from typing import Any

import trio

from actors.upstream.http.address import Address
from actors.upstream.http.read_watcher import ReadWatcher
from loadtests.client.wire import LoopClock, Wire

_IDLE_S = 4.0
"""Servers close idle connections after five seconds or more, and a request must not meet that."""
_SMALL_BUFFER = 4096
_OPENED_AT_ONCE = 32


class Connections:
    """`watcher` and `loop` run as long as there are connections."""

    def __init__(
        self,
        address: Address,
        context: ssl.SSLContext | None,
        *,
        connect_s: float,
        watcher: ReadWatcher,
        loop: LoopClock,
        lags: "array[float]",
    ) -> None:
        self._address = address
        self._context = context
        self._connect_s = connect_s
        self._watcher = watcher
        self._loop = loop
        self._lags = lags
        self._idle: dict[str, list[tuple[float, Wire]]] = {}
        self._unused: list[Wire] = []
        """Opened before the run."""
        self._resolved: tuple[int, Any] | None = None
        self.stamped = True
        """Whether the kernel stamps the packets of every connection."""

    def idle(self, tenant: str) -> Wire | None:
        """One that can be used, the last used first."""
        wires = self._idle.get(tenant, [])
        until = time.perf_counter() - _IDLE_S
        while wires:
            since, wire = wires.pop()
            if since > until and not wire.has_unread():
                return wire
            wire.close()
        while self._unused:
            wire = self._unused.pop()
            if not wire.has_unread():
                return wire
            wire.close()
        return None

    async def prepare(self, count: int) -> None:
        """Open connections for the first requests of any tenant, as many as can be."""

        async def open_some(some: int) -> None:
            with contextlib.suppress(OSError):
                for _ in range(some):
                    self._unused.append(await self.open())

        await open_some(min(count, 1))  # it finds where the server is
        if self._unused:
            async with trio.open_nursery() as nursery:
                for place in range(_OPENED_AT_ONCE):
                    nursery.start_soon(open_some, len(range(place, count - 1, _OPENED_AT_ONCE)))

    def give_back(self, tenant: str, wire: Wire) -> None:
        self._idle.setdefault(tenant, []).append((time.perf_counter(), wire))

    def drop_expired(self) -> None:
        """Close those that have been idle for too long."""
        until = time.perf_counter() - _IDLE_S
        for wires in self._idle.values():
            while wires and wires[0][0] <= until:
                wires.pop(0)[1].close()

    async def open(self, *, small_buffer: bool = False) -> Wire:
        """A new connection. `small_buffer`: for a client that reads slowly. Raises OSError."""
        with trio.move_on_after(self._connect_s):
            return await self._open(small_buffer=small_buffer)
        raise TimeoutError(f"no connection within {self._connect_s:g} s")

    async def _open(self, *, small_buffer: bool) -> Wire:
        family, where = self._resolved or await self._resolve()
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if small_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(where)
            await trio.lowlevel.wait_writable(sock)
            _check_connected(sock)
            wire = Wire(sock, self._watcher, self._lags, self._loop)
            if self._context is not None:
                await wire.start_tls(self._context, self._address.host)
        except BaseException:
            trio.lowlevel.notify_closing(sock)
            sock.close()
            raise
        self.stamped = self.stamped and wire.stamped
        return wire

    async def _resolve(self) -> tuple[int, Any]:
        """The first address of the name at which the server listens. Looked up once: name servers are no part of it."""
        found = await trio.socket.getaddrinfo(self._address.host, self._address.port, type=socket.SOCK_STREAM)
        failed: OSError = OSError("the name has no address")
        for family, _, _, _, where in found:
            with trio.socket.socket(family, socket.SOCK_STREAM) as probe:
                try:
                    await probe.connect(where)
                except OSError as error:
                    failed = error
                else:
                    self._resolved = found_one = (int(family), where)
                    return found_one
        raise failed

    def close(self) -> None:
        """Close the idle ones."""
        for wires in self._idle.values():
            for _, wire in wires:
                wire.close()
        self._idle.clear()
        for wire in self._unused:
            wire.close()
        self._unused.clear()


def _check_connected(sock: socket.socket) -> None:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))
