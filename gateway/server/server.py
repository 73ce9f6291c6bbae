"""Accepts connections, bounds them, ticks them, and ends them when the house drains."""

import errno
import socket
from collections.abc import Callable

import structlog
import trio

from actors.messages import ErrorBody
from gateway.errors import HttpError
from gateway.server.connection import Connection, Handler, Shared
from gateway.server.hangups import HangupWatcher
from gateway.server.head import DateLine, error_headers, error_object, whole
from gateway.server.limits import Limits
from gateway.server.request import Request

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


class Server:
    """Serves what connects to `listener`; `route` finds the handler of a request."""

    def __init__(
        self,
        listener: socket.socket,
        limits: Limits,
        route: Callable[[Request], Handler],
        unreadable: Callable[[ErrorBody], None] = lambda _: None,
    ) -> None:
        """`unreadable` is told what answered bytes that are no request."""
        self._listener = listener
        self._limits = limits
        self._shared = Shared(limits, route, unreadable)
        self._connections: set[Connection] = set()
        self._hangups = HangupWatcher()
        self._accepting = trio.CancelScope()
        self._all_closed = trio.Event()
        self._crowded = _crowded_answer()

    @property
    def port(self) -> int:
        """The one that it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._connections)

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
                for connection in list(self._connections):
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
        for connection in list(self._connections):
            connection.cancel()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                for _ in range(_ACCEPTS_AT_ONCE):
                    sock, _ = self._listener.accept()
                    self._admit(sock, nursery)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    log.warning("accept_failed", error=str(error))
                    await trio.sleep(_RETRY_ACCEPT_S)
                # Anything else was the peer's: it left before it was taken.

    def _admit(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel's own watch over unacknowledged bytes: it also sees peers that vanished without a word.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.write_stall_s * 1000))
            if len(self._connections) >= self._limits.max_connections:
                with sock:
                    sock.send(self._crowded)
                    sock.shutdown(socket.SHUT_WR)
                return
        except OSError:
            # The peer was gone before it was taken.
            sock.close()
            return
        connection = Connection(self._shared, sock)
        self._connections.add(connection)
        nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        self._hangups.watch(connection.socket, connection)
        try:
            await connection.run()
        finally:
            self._hangups.forget(connection.socket)
            connection.socket.close()
            self._connections.remove(connection)
            if not self._connections and self._shared.closing:
                self._all_closed.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(self._limits.tick_s)
            now = trio.current_time()
            for connection in self._connections:
                connection.tick(now)


def _crowded_answer() -> bytes:
    error = HttpError(
        503,
        "too_many_connections",
        "The server has no room for another connection.",
        kind="server_error",
        should_retry=True,
    ).body
    return whole(503, DateLine().at(0), error_headers(error), error_object(error), close=True)
