"""Accepts connections, limits and ticks them, and ends them when the service drains."""

import contextlib
import errno
import itertools
import math
import socket
from collections.abc import Callable
from functools import partial

import msgspec
import structlog
import trio

from actors.api.errors import ErrorBody
from gateway.http.bounds.limits import ServerLimits
from gateway.http.bounds.peer import PeerNames
from gateway.http.connection import ErrorFormat
from gateway.http.connection_task import ConnectionTask, Shared
from gateway.http.gate import Route, place_refusal
from gateway.http.request import Request
from gateway.http.response_head import error_headers, error_object, whole
from gateway.http.socket_watcher import SocketWatcher

_BACKLOG = 1024
_SEND_BUFFER_BYTES = 256 * 1024
"""The kernel's default grows to megabytes for a slow reader, and then it takes long to see that it still reads."""
_ACCEPTS_AT_ONCE = 64
"""Connections accepted before other tasks run."""
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_ACCEPT_S = 0.1
_EVICTED_AT_ONCE = 16
"""Waiting connections that are closed when the process has no descriptors left, which upstreams and files need, too."""
_COMPLAIN_EVERY_S = 10.0
log = structlog.get_logger()


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen, on IPv6 if the address is one; port 0 takes a free port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host.strip("[]"), port), family=family, backlog=_BACKLOG)
    listener.setblocking(False)
    # Accepted sockets inherit it.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return listener


def is_bound_to(listener: socket.socket, host: str) -> bool:
    """Whether it has the address that `listen` gives to a socket for this host."""
    try:
        with listen(host, 0) as other:
            return bool(other.getsockname()[0] == listener.getsockname()[0])
    except OSError:
        return False


class ServerStatistics(msgspec.Struct, frozen=True):
    """Connections and body memory in use."""

    connections: int
    working: int
    """Connections that are answered, or whose body is read."""
    body_bytes: int
    """Bytes of bodies that are not complete yet."""


class Server:
    """Serves the connections of `listener`; `route` routes a request when its head is complete."""

    def __init__(
        self,
        listener: socket.socket,
        limits: ServerLimits,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request | None], bytes] = lambda *_: b"",
        error_format: ErrorFormat = error_object,
    ) -> None:
        """`refused` is called for each error that the server itself answers; it returns header lines for the answer.

        Its second argument is the request, if its head was read.
        """
        self._listener = listener
        self._limits = limits
        self._shared = Shared(limits, route, refused, error_format)
        self._connections: dict[int, ConnectionTask] = {}
        self._numbers = itertools.count()
        self._names = PeerNames(limits.trusted_proxies)
        self._watcher = SocketWatcher()
        self._accepting = trio.CancelScope()
        self._handing_over = False
        self._complains_at = -math.inf
        self._all_closed = trio.Event()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def statistics(self) -> ServerStatistics:
        places = self._shared.places
        return ServerStatistics(len(self._connections), places.working, self._shared.bodies.total)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `finish` has ended the last connection."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watcher.run)
                nursery.start_soon(self._tick)
                task_status.started()
                with self._accepting:
                    await self._accept(nursery)
                self._listener.close()
                self._shared.closing = True
                for task in list(self._connections.values()):
                    task.close_after_answer() if self._handing_over else task.close_when_idle()
                if not self._connections:
                    # The last one may have closed before `closing` was set, while `finish` waits already.
                    self._all_closed.set()
                await self._all_closed.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._listener.close()
            self._watcher.close()

    @property
    def descriptor(self) -> int:
        """Of the listening socket."""
        return self._listener.fileno()

    def hand_over(self) -> None:
        """Another process accepts from now on. Each connection gets one more answer, so that no request is lost."""
        self._handing_over = True
        self._accepting.cancel()

    async def closed(self) -> None:
        """Wait for the last connection, after `hand_over`."""
        if self._connections:
            await self._all_closed.wait()

    async def finish(self, grace_s: float) -> None:
        """Stop accepting, close idle connections, give the others `grace_s` seconds to end, then close them."""
        self._accepting.cancel()
        with trio.move_on_after(grace_s):
            if self._connections:
                await self._all_closed.wait()
        for task in list(self._connections.values()):
            task.connection.cancel()

    async def _accept(self, nursery: trio.Nursery) -> None:
        failed = False
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                for _ in range(_ACCEPTS_AT_ONCE):
                    sock, address = self._listener.accept()
                    failed = False
                    self._admit(sock, self._names.name(address[0]), nursery)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._complain(error)
                    if failed:
                        # Those that were accepted a moment ago have had the time to send their requests.
                        self._make_room()
                    failed = True
                    await trio.sleep(_RETRY_ACCEPT_S)
                # All other errors come from the peer: it left before it was accepted.

    def _admit(self, sock: socket.socket, peer: str, nursery: trio.Nursery) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel's timeout for unacknowledged bytes also detects peers that vanished without closing.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.write_stall_s * 1000))
        except OSError:
            # The peer left before it was accepted.
            sock.close()
            return
        number = next(self._numbers)
        opening = self._shared.places.open(number, peer)
        if opening.refused is not None:
            error = place_refusal(opening.refused).body
            lines = self._shared.refused(error, None) + error_headers(error)
            date = self._shared.date.at(trio.current_time())
            with sock, contextlib.suppress(OSError):
                sock.send(whole(error.status, date, lines, self._shared.error_format(error, None), close=True))
                sock.shutdown(socket.SHUT_WR)
            return
        if opening.evicted is not None:
            self._connections[opening.evicted].connection.cancel()
        task = self._connections[number] = ConnectionTask(self._shared, sock, number, peer)
        self._watcher.watch(sock, task.connection)
        nursery.start_soon(task.run, partial(self._ended, number))

    def _complain(self, error: OSError) -> None:
        now = trio.current_time()
        if now >= self._complains_at:
            self._complains_at = now + _COMPLAIN_EVERY_S
            log.warning("accept_failed", error=str(error), hint="raise the limit of open files: ulimit -n, LimitNOFILE")

    def _make_room(self) -> None:
        for _ in range(_EVICTED_AT_ONCE):
            evicted = self._shared.places.evict()
            if evicted is None:
                return
            self._connections[evicted].connection.cancel()

    def _ended(self, number: int) -> None:
        sock = self._connections.pop(number).connection.socket
        self._watcher.forget(sock)
        sock.close()
        if not self._connections and self._shared.closing:
            self._all_closed.set()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(self._limits.tick_s)
            self._tick_all(trio.current_time())

    def _tick_all(self, now: float) -> None:
        # In a function of its own, or a local variable of the ticker would keep the last task alive.
        for task in self._connections.values():
            task.tick(now)
