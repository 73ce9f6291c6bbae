"""One connection, one task: read a request, let it be answered, and again, until somebody closes."""

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from actors.errors import Refusal
from actors.messages import ErrorBody
from gateway.errors import ClientGone, HttpError
from gateway.server.event_stream import EventStream
from gateway.server.head import DateLine, error_headers, error_object, whole
from gateway.server.limits import Limits
from gateway.server.request import Request, RequestParser
from gateway.server.writer import SocketWriter

_READ_BYTES = 64 * 1024
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
INTERNAL_ERROR = ErrorBody(
    500, "server_error", "internal_error", "The server failed on this request; its log says why.", should_retry=True
)
log = structlog.get_logger()

Handler = Callable[["Connection", Request], Awaitable[None]]
"""Answers one request with `respond`, `event_stream` or `begin_upgrade`; raises `Refusal` for what it refuses."""


class Ticking(Protocol):
    """What of a connection wants to be looked at while its handler waits."""

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Called every `Limits.tick_s`."""

    def finish(self) -> None:
        """The server closes: come to an end when what runs has ended."""


class Shared:
    """What all connections of a server share."""

    def __init__(
        self, limits: Limits, route: Callable[[Request], Handler], unreadable: Callable[[ErrorBody], None]
    ) -> None:
        """`unreadable` is told what answered bytes that are no request."""
        self.limits = limits
        self.route = route
        self.unreadable = unreadable
        self.date = DateLine()
        self.closing = False
        """No further request is read on any connection."""


class Connection:
    """Reads requests, finds their handlers, writes what these answer.

    Its single cancel scope is the request's, too: a client that hangs up while `watching` takes the handler with it.
    Deadlines are plain numbers that the ticker looks at: setting one costs nothing.
    """

    def __init__(self, shared: Shared, sock: socket.socket) -> None:
        self._shared = shared
        self._scope = trio.CancelScope()
        self._deadline: float | None = trio.current_time() + shared.limits.header_timeout_s
        self._parser = RequestParser(shared.limits)
        self._answered = False
        self._keep_alive = False
        self._ticking: Ticking | None = None
        self._date = b""
        self._timed_out = False
        self.socket = sock
        self.writer = SocketWriter(sock, shared.limits.write_stall_s)
        self.gone = False
        """The peer has hung up."""
        self.watching = False
        """The handler wants to be cancelled when the peer hangs up."""
        self.idle = True
        """No request is being read or answered."""

    async def run(self) -> None:
        """Serve the connection to its end. Whatever happens in here stays in here."""
        try:
            with self._scope:
                await self._serve()
            if self._timed_out and self._parser.mid_request:
                error = HttpError(408, "request_timeout", "The request did not arrive in time.", should_retry=True)
                self.writer.send_nowait(self._error(error.body, close=True))
        except ClientGone:
            # Whatever the kernel still holds for it is thrown away with the connection.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        except Exception:
            log.exception("connection_failed")
        except BaseExceptionGroup as group:
            failures, rest = group.split(Exception)
            if failures is not None:
                log.exception("connection_failed", exc_info=failures)
            if rest is not None:
                raise rest from None

    def close_when_idle(self) -> None:
        """End the connection as soon as it answers nothing; `Shared.closing` keeps it from reading on."""
        if self.idle:
            self._scope.cancel()
        elif self._ticking is not None:
            self._ticking.finish()

    def cancel(self) -> None:
        """End the connection now."""
        self._scope.cancel()

    def hung_up(self) -> None:
        """The peer sends nothing more: a handler that watches is cancelled, whatever lies unread."""
        self.gone = True
        if self.watching:
            self._scope.cancel()

    def tick(self, now: float) -> None:
        """Look at the deadline and the heartbeat."""
        if self._deadline is not None and now >= self._deadline:
            self._timed_out = True
            self._scope.cancel()
        elif self._ticking is not None:
            self._ticking.tick(now, self._shared.limits.heartbeat_s)

    def watch(self) -> None:
        """From now on a hang-up cancels the handler. Raises `ClientGone` if it has happened already."""
        if self.gone:
            raise ClientGone
        self.watching = True

    def begin_upgrade(self) -> bytes:
        """For another protocol on this socket: what was read beyond the request. No request is read after that."""
        self._keep_alive = False
        self._answered = True
        return self._parser.trailing

    def tick_for(self, ticking: Ticking) -> None:
        """Let `ticking` see the clock while this request lasts."""
        self._ticking = ticking

    async def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Send a whole response; `headers` are lines that end in CRLF."""
        self._answered = True
        if close or self._shared.closing:
            self._keep_alive = False
        data = whole(status, self._date, headers, body, close=not self._keep_alive, without_body=self._without_body)
        await self.writer.send(data)

    async def respond_error(self, error: ErrorBody, headers: bytes = b"", *, close: bool = False) -> None:
        """Send an error as the OpenAI API shapes it."""
        await self.respond(error.status, headers + error_headers(error), error_object(error), close=close)

    def event_stream(self, request: Request, headers: bytes, *, close: bool = False) -> EventStream:
        """Begin a response of server-sent events. It may still become an error as long as it has not `started`."""
        chunked = request.version == "1.1"
        if close or not chunked or self._shared.closing:
            self._keep_alive = False
        stream = EventStream(
            self.writer, trio.current_time(), self._date, headers, chunked=chunked, close=not self._keep_alive
        )
        self._ticking = stream
        return stream

    def close_after(self) -> None:
        """Read no further request."""
        self._keep_alive = False

    async def _serve(self) -> None:
        while (request := await self._next_request()) is not None:
            self.idle = False
            self._deadline = None
            self._date = self._shared.date.at(request.arrived_at)
            self._answered = False
            self._keep_alive = request.keep_alive
            self._without_body = request.method == b"HEAD"
            await self._answer(request)
            self.watching = False
            self._ticking = None
            if not self._keep_alive or self._shared.closing:
                return
            limits = self._shared.limits
            self.idle = not self._parser.mid_request
            self._deadline = trio.current_time() + (limits.keep_alive_s if self.idle else limits.header_timeout_s)

    async def _answer(self, request: Request) -> None:
        try:
            await self._shared.route(request)(self, request)
        except ClientGone:
            raise
        except Refusal as refusal:
            await self._answer_error(refusal.body)
        except Exception:
            # The path is ours or unknown; nothing that a client wrote into a body gets into the log.
            log.exception("handler_failed", path=request.path.decode("latin1")[:200])
            await self._answer_error(INTERNAL_ERROR)

    async def _answer_error(self, error: ErrorBody) -> None:
        """A handler gave up. If a response has begun, there is only the cut: its framing tells that it is not whole."""
        stream = self._ticking
        if self._answered or (isinstance(stream, EventStream) and stream.started):
            raise ClientGone
        self._ticking = None
        await self.respond_error(error)

    async def _next_request(self) -> Request | None:
        parser = self._parser
        while not parser.requests:
            await trio.lowlevel.wait_readable(self.socket)
            try:
                data = self.socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            if not data:
                return None
            now = trio.current_time()
            refusal: HttpError | None = None
            try:
                parser.feed(data, now)
            except HttpError as error:
                refusal = error
            if parser.requests and refusal is None:
                break
            if refusal is not None:
                # Whole requests before the bad bytes are not answered: after a framing error nothing is certain.
                await self.writer.send(self._error(refusal.body, close=True))
                await self._linger()
                return None
            self._await_rest(now, len(data))
        return parser.requests.popleft()

    def _await_rest(self, now: float, received: int) -> None:
        """A part of a request has come: the sender has until the deadline for the rest of it."""
        limits = self._shared.limits
        if self._parser.wants_continue:
            self._parser.wants_continue = False
            self.writer.send_nowait(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.idle and self._parser.mid_request:
            self.idle = False
            self._deadline = now + limits.header_timeout_s
        elif self._parser.mid_body and self._deadline is not None:
            self._deadline += received / limits.min_body_bytes_per_s

    def _error(self, error: ErrorBody, *, close: bool) -> bytes:
        self._shared.unreadable(error)
        date = self._shared.date.at(trio.current_time())
        return whole(error.status, date, error_headers(error), error_object(error), close=close)

    async def _linger(self) -> None:
        """Let the peer read the error: closing on unread bytes would reset the connection under it."""
        self._deadline = None
        self.socket.shutdown(socket.SHUT_WR)
        left = _LINGER_BYTES
        with trio.move_on_after(_LINGER_S):
            while left > 0:
                await trio.lowlevel.wait_readable(self.socket)
                data = self.socket.recv(_READ_BYTES)
                if not data:
                    return
                left -= len(data)
