"""Accepts connections, bounds them, ticks them, and ends them when the service drains."""

import contextlib
import errno
import itertools
import socket
from collections.abc import Callable

import msgspec
import structlog
import trio

from actors.api.errors import ErrorBody
from gateway.http.bounds.limits import ServerLimits
from gateway.http.bounds.peer import PeerNames
from gateway.http.connection import Connection, Shared
from gateway.http.gate import place_refusal
from gateway.http.hangups import HangupWatcher
from gateway.http.request import Request
from gateway.http.response_head import error_headers, error_object, whole
from gateway.http.route import Route

_BACKLOG = 1024
_SEND_BUFFER_BYTES = 256 * 1024
"""Left to itself the kernel takes megabytes for each slow reader, and then needs long to tell that it still reads."""
_ACCEPTS_AT_ONCE = 64
"""Before others have a turn."""
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_ACCEPT_S = 0.1
log = structlog.get_logger()


def listen(host: str, port: int) -> socket.socket:
    """Bind, to IPv6 if the address is one; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    # What is accepted inherits it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return listener


class ServerStatistics(msgspec.Struct, frozen=True):
    """What peers hold."""

    connections: int
    working: int
    """Those of them that are answered, or whose body is read."""
    body_bytes: int
    """Of bodies that are not read to their end yet."""


class Server:
    """Serves what connects to `listener`; `route` says where a request goes, when its head is whole."""

    def __init__(
        self,
        listener: socket.socket,
        limits: ServerLimits,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request | None], bytes] = lambda *_: b"",
    ) -> None:
        """`refused` is told what the server refuses by itself, and gives header lines for that answer.

        It gets the request if its head was read.
        """
        self._listener = listener
        self._limits = limits
        self._shared = Shared(limits, route, refused)
        self._connections: dict[int, Connection] = {}
        self._numbers = itertools.count()
        self._names = PeerNames(limits.trusted_proxies)
        self._hangups = HangupWatcher()
        self._accepting = trio.CancelScope()
        self._all_closed = trio.Event()

    @property
    def port(self) -> int:
        """The one that it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._connections)

    def statistics(self) -> ServerStatistics:
        """Now."""
        places = self._shared.places
        return ServerStatistics(len(self._connections), places.working, self._shared.bodies.total)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `finish` has ended the last connection."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hangups.run)
                nursery.start_soon(self._tick)
                task_status.started()
                with self._accepting:
                    await self._accept(nursery)
                self._listener.close()
                self._shared.closing = True
                for connection in list(self._connections.values()):
                    connection.close_when_idle()
                if self._connections:
                    await self._all_closed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._listener.close()
            self._hangups.close()

    async def finish(self, grace_s: float) -> None:
        """Accept nothing more, close idle connections, let the others end for so long, then cut them."""
        self._accepting.cancel()
        with trio.move_on_after(grace_s):
            if self._connections:
                await self._all_closed.wait()
        for connection in list(self._connections.values()):
            connection.cancel()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                for _ in range(_ACCEPTS_AT_ONCE):
                    sock, address = self._listener.accept()
                    self._admit(sock, self._names.name(address[0]), nursery)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    log.warning("accept_failed", error=str(error))
                    await trio.sleep(_RETRY_ACCEPT_S)
                # Anything else was the peer's: it left before it was taken.

    def _admit(self, sock: socket.socket, peer: str, nursery: trio.Nursery) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel's own watch over unacknowledged bytes: it also sees peers that vanished without a word.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.write_stall_s * 1000))
        except OSError:
            # The peer was gone before it was taken.
            sock.close()
            return
        number = next(self._numbers)
        opening = self._shared.places.open(number, peer)
        if opening.refused is not None:
            error = place_refusal(opening.refused).body
            lines = self._shared.refused(error, None) + error_headers(error)
            date = self._shared.date.at(trio.current_time())
            with sock, contextlib.suppress(OSError):
                sock.send(whole(error.status, date, lines, error_object(error), close=True))
                sock.shutdown(socket.SHUT_WR)
            return
        if opening.gives_way is not None:
            self._connections[opening.gives_way].cancel()
        connection = self._connections[number] = Connection(self._shared, sock, number, peer)
        nursery.start_soon(self._serve, number, connection)

    async def _serve(self, number: int, connection: Connection) -> None:
        self._hangups.watch(connection.socket, connection)
        try:
            await connection.run()
        finally:
            self._hangups.forget(connection.socket)
            connection.socket.close()
            del self._connections[number]
            if not self._connections and self._shared.closing:
                self._all_closed.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(self._limits.tick_s)
            self._look(trio.current_time())

    def _look(self, now: float) -> None:
        # In a function of its own, or the last connection would live on in a variable of the ticker's.
        for connection in self._connections.values():
            connection.tick(now)
