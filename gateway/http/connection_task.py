"""One connection's task: read a request, call its handler, repeat until one side closes."""

import socket
import struct
from collections.abc import Callable
from functools import partial

import structlog
import trio

from actors.api.errors import ErrorBody, Refusal
from actors.kernel.clock import loop_clock
from gateway.errors import ClientGone, HttpError
from gateway.http.bounds.body_book import BodyAccount, BodyBook
from gateway.http.bounds.body_deadline import BodyDeadline
from gateway.http.bounds.connection_places import ConnectionPlaces
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import INTERNAL_ERROR, Connection, ErrorFormat
from gateway.http.event_stream import EventStream
from gateway.http.gate import Gate, Handler, Route
from gateway.http.request import Request
from gateway.http.request_parser import RequestParser
from gateway.http.response_head import DateLine, error_headers, whole

_READ_BYTES = 64 * 1024
_PIECE_BYTES = 4096
"""Bytes parsed before other tasks run: a hundred requests, or a thousand chunks, about two milliseconds."""
_TINY_BYTES = 512
"""A smaller read without a complete request counts as one message for the rate limit."""
_UPLOAD_S = 3600.0
"""Time for a body that its handler reads in pieces; its pauses and its rate are bounded as those of any other."""
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
log = structlog.get_logger()


class Shared:
    """State that all connections of a server share."""

    def __init__(
        self,
        limits: ServerLimits,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request | None], bytes],
        error_format: ErrorFormat,
    ) -> None:
        """`refused` is called for each error that the server itself answers; it returns header lines for the answer."""
        self.limits = limits
        self.route = route
        self.refused = refused
        self.error_format = error_format
        self.places = ConnectionPlaces(limits)
        self.bodies = BodyBook(limits)
        self.date = DateLine()
        self.closing = False
        """Connections end after their current request."""


class ConnectionTask:
    """Reads requests and calls their handlers, which answer through the `Connection`.

    Deadlines are plain numbers that the ticker checks: setting one costs nothing.
    """

    def __init__(self, shared: Shared, sock: socket.socket, number: int, peer: str) -> None:
        """`number`: as counted in `ConnectionPlaces`. An empty `peer` has no limits of its own."""
        self._shared = shared
        account = BodyAccount(shared.bodies, peer)
        self.connection = Connection(sock, shared.limits, account, shared.error_format)
        self._gate = Gate(shared.route, shared.refused, shared.places, number, account)
        self._parser = RequestParser(shared.limits, self._gate.admit, account)
        self._unparsed = b""
        self._idle = True
        """No request is being read or answered."""
        self._clock = loop_clock()
        self._deadline: float | None = self._clock() + shared.limits.header_timeout_s
        self._body_deadline: BodyDeadline | None = None
        self._timed_out = False

    async def run(self, ended: Callable[[], None]) -> None:
        """Serve the connection to its end, then call `ended`. Failures are logged, never raised."""
        try:
            with self.connection.scope:
                await self._serve()
            if self._timed_out and self._parser.unanswered:
                error = HttpError(408, "request_timeout", "The request did not arrive in time.", should_retry=True)
                self.connection.writer.send_nowait(self._error(error.body))
        except ClientGone:
            # Close with a reset: the kernel drops unsent data.
            self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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
        finally:
            self.connection.ticking = None
            self._gate.close()
            ended()

    def close_when_idle(self) -> None:
        """End the connection now if it is idle, else after its answer."""
        self.connection.keep_alive = False
        if self._idle:
            self.connection.cancel()
        elif self.connection.ticking is not None:
            self.connection.ticking.finish()

    def close_after_answer(self) -> None:
        """End the connection after the answer in progress, or else after the next one."""
        self.connection.keep_alive = False
        if self.connection.ticking is not None:
            self.connection.ticking.finish()

    def tick(self, now: float) -> None:
        """Check the deadline and the heartbeat."""
        if self._deadline is not None and now >= self._deadline:
            self._timed_out = True
            self.connection.cancel()
        elif self.connection.ticking is not None:
            self.connection.ticking.tick(now, self._shared.limits.heartbeat_s)

    async def _serve(self) -> None:
        connection, shared = self.connection, self._shared
        while (taken := await self._next_request()) is not None:
            request, route = taken
            self._idle = False
            self._deadline = None
            if request.upgrade:
                connection.trailing, self._unparsed = self._parser.trailing + self._unparsed, b""
            lines = shared.date.at(request.arrived_at) + route.lines
            keep_alive = request.keep_alive and not shared.closing
            if route.piecewise:
                # The next request begins after the body, which the handler may leave unread.
                connection.read_piece = partial(self._next_piece, keep_alive)
                keep_alive = False
            connection.begin(request, lines, keep_alive=keep_alive)
            await self._answer(request, route.handler)
            connection.end(request)
            if not connection.keep_alive:
                if self._parser.mid_body:
                    await self._linger()
                return
            if not self._parser.requests and not self._unparsed:
                self._rest(self._clock())

    def _rest(self, now: float) -> None:
        """Wait for the next request. Part of it, or the rest of a dropped body, may have arrived already."""
        limits = self._shared.limits
        self._gate.rest()
        self._body_deadline = None
        self._idle = not self._parser.mid_request
        self._deadline = now + (limits.keep_alive_s if self._idle else limits.header_timeout_s)

    async def _answer(self, request: Request, handler: Handler) -> None:
        try:
            await handler(self.connection, request)
        except ClientGone:
            raise
        except Refusal as refusal:
            await self._answer_error(refusal.body)
        except Exception:
            # Only the path is logged, nothing of the body.
            log.exception("handler_failed", path=request.path.decode("latin1")[:200])
            await self._answer_error(INTERNAL_ERROR)

    async def _answer_error(self, error: ErrorBody) -> None:
        """Answer a handler's error. If a response has begun, close instead: its framing shows that it is incomplete."""
        connection = self.connection
        stream = connection.ticking
        if connection.answered or (isinstance(stream, EventStream) and stream.started):
            raise ClientGone
        connection.ticking = None
        await connection.respond_error(error)

    async def _next_piece(self, keep_alive: bool) -> bytes:
        """See `Connection.next_piece`. `keep_alive`: another request may follow the body."""
        parser, connection = self._parser, self.connection
        if parser.mid_body and self._body_deadline is None:
            self._await_rest(self._clock(), 0)
        while not parser.pieces and parser.mid_body:
            if not self._unparsed:
                self._unparsed = await connection.receive(_READ_BYTES)
                if not self._unparsed:
                    raise ClientGone
            now = self._clock()
            piece = self._piece()
            parser.feed(piece, now)
            if parser.mid_body:
                self._await_rest(now, len(piece))
            if self._unparsed:
                await trio.lowlevel.checkpoint()
        if parser.pieces:
            return parser.pieces.popleft()
        self._deadline = self._body_deadline = None
        connection.keep_alive = keep_alive and not self._shared.closing
        return b""

    async def _next_request(self) -> tuple[Request, Route] | None:
        parser, connection = self._parser, self.connection
        now: float | None = None
        while not parser.requests:
            if not self._unparsed:
                self._unparsed = await connection.receive(_READ_BYTES)
                if not self._unparsed:
                    return None
            now = self._clock()
            piece = self._piece()
            refusal: ErrorBody | None = None
            try:
                parser.feed(piece, now)
            except Refusal as error:
                refusal = error.body
            if refusal is not None:
                # Complete requests before the bad bytes are not answered: after a framing error nothing is certain.
                await connection.writer.send(self._error(refusal))
                await self._linger()
                return None
            if parser.requests:
                break
            self._await_rest(now, len(piece))
            if self._unparsed:
                await trio.lowlevel.checkpoint()
            elif len(piece) < _TINY_BYTES and (wait_s := connection.slow_down(now)):
                await trio.sleep(wait_s)
        if wait_s := connection.slow_down(self._clock() if now is None else now):
            await trio.sleep(wait_s)
        return parser.requests.popleft()

    def _piece(self) -> bytes:
        """The next bytes to parse: few, except inside a body of known length, which is cheap."""
        data, self._unparsed = self._unparsed, b""
        if len(data) <= _PIECE_BYTES:
            return data
        size = max(self._parser.body_left, _PIECE_BYTES)
        self._unparsed = data[size:]
        return data[:size]

    def _await_rest(self, now: float, received: int) -> None:
        """Set the deadline for the rest of a request."""
        parser = self._parser
        if parser.takes_continue():
            self.connection.writer.send_nowait(b"HTTP/1.1 100 Continue\r\n\r\n")
        if parser.mid_body:
            self._idle = False
            if self._body_deadline is None:
                whole_s = _UPLOAD_S if parser.piecewise else None
                self._body_deadline = BodyDeadline(self._shared.limits, now, whole_s=whole_s)
            else:
                self._body_deadline.received(received, now)
            self._deadline = self._body_deadline.at
        elif self._body_deadline is not None:
            # The end of a dropped body.
            self._rest(now)
        elif self._idle and parser.mid_request:
            self._idle = False
            self._deadline = now + self._shared.limits.header_timeout_s

    def _error(self, error: ErrorBody) -> bytes:
        shared, request = self._shared, self._parser.read_head
        lines = shared.refused(error, request) + error_headers(error)
        always = shared.date.at(self._clock()) + self._parser.lines
        return whole(error.status, always, lines, shared.error_format(error, request), close=True)

    async def _linger(self) -> None:
        """Let the peer read the error: closing with unread bytes would reset the connection first."""
        self._deadline = None
        self._gate.rest()
        self.connection.socket.shutdown(socket.SHUT_WR)
        left = _LINGER_BYTES
        with trio.move_on_after(_LINGER_S):
            while left > 0:
                data = await self.connection.receive(_READ_BYTES)
                if not data:
                    return
                left -= len(data)
