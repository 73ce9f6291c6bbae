"""Accepts connections, bounds them, ticks them, and ends them when the house drains."""

import errno
import socket
from collections.abc import Callable

import structlog
import trio
from hypercorn.config import Config

from gateway.errors import HttpError
from gateway.server.connection import Connection, Handler, Shared
from gateway.server.hangups import HangupWatcher
from gateway.server.head import DateLine, error_headers, error_object, whole
from gateway.server.limits import Limits
from gateway.server.request import Request

_BACKLOG = 1024
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_ACCEPT_S = 0.1
log = structlog.get_logger()


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind; raises OSError. `hypercorn` knows IPv6, unix sockets ("unix:/path") and inherited ones ("fd://3")."""
    config = Config()
    config.bind = [host if host.startswith(("unix:", "fd://")) else f"{host}:{port}"]
    sockets = config.create_sockets().insecure_sockets
    for listener in sockets:
        listener.listen(_BACKLOG)
    return sockets


class Server:
    """Serves `listeners`; `route` finds the handler of a request."""

    def __init__(self, listeners: list[socket.socket], limits: Limits, route: Callable[[Request], Handler]) -> None:
        self._listeners = listeners
        self._limits = limits
        self._shared = Shared(limits, route)
        self._connections: set[Connection] = set()
        self._hangups = HangupWatcher()
        self._accepting = trio.CancelScope()
        self._all_closed = trio.Event()
        self._crowded = _crowded_answer()

    @property
    def port(self) -> int:
        """Of the first listener; 0 for one without ports."""
        address = self._listeners[0].getsockname()
        return address[1] if isinstance(address, tuple) else 0

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
                    async with trio.open_nursery() as acceptors:
                        for listener in self._listeners:
                            acceptors.start_soon(self._accept, listener, nursery)
                self._close_listeners()
                self._shared.closing = True
                for connection in list(self._connections):
                    connection.close_when_idle()
                if self._connections:
                    await self._all_closed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._close_listeners()
            self._hangups.close()

    async def finish(self, grace_s: float) -> None:
        """Accept nothing more, close idle connections, let the others end for so long, then cut them."""
        self._accepting.cancel()
        with trio.move_on_after(grace_s):
            if self._connections:
                await self._all_closed.wait()
        for connection in list(self._connections):
            connection.cancel()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                while True:
                    sock, _ = listener.accept()
                    self._admit(sock, nursery)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    log.warning("accept_failed", error=str(error))
                    await trio.sleep(_RETRY_ACCEPT_S)
                # Anything else was the peer's: it left before it was taken.

    def _admit(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        if len(self._connections) >= self._limits.max_connections:
            with sock:
                try:
                    sock.send(self._crowded)
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
            return
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel's own watch over unacknowledged bytes: it also sees peers that vanished without a word.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.write_stall_s * 1000))
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
