"""One connection, one task: read a request, let it be answered, and again, until somebody closes."""

import socket
import struct
from collections.abc import Callable
from typing import Protocol

import structlog
import trio

from actors.api.errors import ErrorBody, Refusal
from gateway.errors import ClientGone, HttpError
from gateway.http.bounds.body_book import BodyAccount, BodyBook
from gateway.http.bounds.body_deadline import BodyDeadline
from gateway.http.bounds.connection_places import ConnectionPlaces
from gateway.http.bounds.limits import ServerLimits
from gateway.http.bounds.token_bucket import TokenBucket
from gateway.http.event_stream import EventStream
from gateway.http.gate import Gate
from gateway.http.request import Request
from gateway.http.request_parser import RequestParser
from gateway.http.response_head import DateLine, error_headers, error_object, whole
from gateway.http.route import Route
from gateway.http.writer import SocketWriter

_READ_BYTES = 64 * 1024
_PIECE_BYTES = 4096
"""Parsed before others have a turn: a hundred requests, or a thousand chunks, which takes about two milliseconds."""
_TINY_BYTES = 512
"""A read that brings less, and no request, costs as much as one."""
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024
INTERNAL_ERROR = ErrorBody(
    500, "server_error", "internal_error", "The server failed on this request; its log says why.", should_retry=True
)
log = structlog.get_logger()


class Ticking(Protocol):
    """What of a connection wants to be looked at while its handler waits."""

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Called every `ServerLimits.tick_s`."""

    def finish(self) -> None:
        """The server closes: come to an end when what runs has ended."""


class Shared:
    """What all connections of a server share."""

    def __init__(
        self,
        limits: ServerLimits,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request | None], bytes],
    ) -> None:
        """`refused` is told what the server refuses by itself, and gives header lines for that answer."""
        self.limits = limits
        self.route = route
        self.refused = refused
        self.places = ConnectionPlaces(limits)
        self.bodies = BodyBook(limits)
        self.date = DateLine()
        self.closing = False
        """No further request is read on any connection."""


class Connection:
    """Reads requests, finds their handlers, writes what these answer.

    Its single cancel scope is the request's, too: a client that hangs up while `watching` takes the handler with it.
    Deadlines are plain numbers that the ticker looks at: setting one costs nothing.
    """

    def __init__(self, shared: Shared, sock: socket.socket, number: int, peer: str) -> None:
        """`number` has a place already. An empty `peer` has no bounds of its own."""
        now = trio.current_time()
        self._shared = shared
        self._scope = trio.CancelScope()
        self._deadline: float | None = now + shared.limits.header_timeout_s
        self._body_deadline: BodyDeadline | None = None
        self._bucket = TokenBucket(shared.limits.messages_per_s, now)
        self._gate = Gate(shared.route, shared.refused, shared.places, number, BodyAccount(shared.bodies, peer))
        self._parser = RequestParser(shared.limits, self._gate.admit, self._gate.account)
        self._unparsed = b""
        self._answered = False
        self._keep_alive = False
        self._ticking: Ticking | None = None
        self._lines = b""
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
            if self._timed_out and self._parser.unanswered:
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
        finally:
            self._ticking = None
            self._gate.close()

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
        trailing, self._unparsed = self._parser.trailing + self._unparsed, b""
        return trailing

    @property
    def account(self) -> BodyAccount:
        """Pays for what a peer lets us keep before it is whole."""
        return self._gate.account

    def drop_body(self, request: Request) -> None:
        """The body was read: it need not be kept, too, while it is answered."""
        self._gate.account.give(len(request.body))
        request.body = b""

    def slow_down(self) -> float:
        """A message has come: for how many seconds nothing more is to be read, so that others have their turn."""
        return self._bucket.take(trio.current_time())

    def tick_for(self, ticking: Ticking) -> None:
        """Let `ticking` see the clock while this request lasts."""
        self._ticking = ticking

    async def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Send a whole response; `headers` are lines that end in CRLF."""
        self._answered = True
        if close or self._shared.closing:
            self._keep_alive = False
        data = whole(status, self._lines, headers, body, close=not self._keep_alive, without_body=self._without_body)
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
            self.writer, trio.current_time(), self._lines, headers, chunked=chunked, close=not self._keep_alive
        )
        self._ticking = stream
        return stream

    async def _serve(self) -> None:
        while (request := await self._next_request()) is not None:
            self.idle = False
            self._deadline = None
            self._lines = self._shared.date.at(request.arrived_at) + request.route.lines
            self._answered = False
            self._keep_alive = request.keep_alive
            self._without_body = request.method == b"HEAD"
            await self._answer(request)
            self.watching = False
            self._ticking = None
            if request.body:
                self.drop_body(request)
            if not self._keep_alive or self._shared.closing:
                if self._parser.mid_body:
                    await self._linger()
                return
            if not self._parser.requests and not self._unparsed:
                self._rest(trio.current_time())

    def _rest(self, now: float) -> None:
        """Nothing is to be answered. Part of the next request, or the end of a body that nobody wants, may be here."""
        limits = self._shared.limits
        self._gate.rest()
        self._body_deadline = None
        self.idle = not self._parser.mid_request
        self._deadline = now + (limits.keep_alive_s if self.idle else limits.header_timeout_s)

    async def _answer(self, request: Request) -> None:
        try:
            await request.route.handler(self, request)
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
            if not self._unparsed:
                await trio.lowlevel.wait_readable(self.socket)
                try:
                    self._unparsed = self.socket.recv(_READ_BYTES)
                except BlockingIOError:
                    continue
                if not self._unparsed:
                    return None
            now = trio.current_time()
            piece = self._piece()
            refusal: ErrorBody | None = None
            try:
                parser.feed(piece, now)
            except Refusal as error:
                refusal = error.body
            if refusal is not None:
                # Whole requests before the bad bytes are not answered: after a framing error nothing is certain.
                await self.writer.send(self._error(refusal, close=True))
                await self._linger()
                return None
            if parser.requests:
                break
            self._await_rest(now, len(piece))
            if self._unparsed:
                await trio.lowlevel.checkpoint()
            elif len(piece) < _TINY_BYTES and (wait_s := self.slow_down()):
                await trio.sleep(wait_s)
        if wait_s := self.slow_down():
            await trio.sleep(wait_s)
        return parser.requests.popleft()

    def _piece(self) -> bytes:
        """What is parsed at once: little, unless it is the inside of a body, which costs nothing."""
        data, self._unparsed = self._unparsed, b""
        if len(data) <= _PIECE_BYTES:
            return data
        size = max(self._parser.body_left, _PIECE_BYTES)
        self._unparsed = data[size:]
        return data[:size]

    def _await_rest(self, now: float, received: int) -> None:
        """A part of a request has come: the sender has until the deadline for the rest of it."""
        parser = self._parser
        if parser.takes_continue():
            self.writer.send_nowait(b"HTTP/1.1 100 Continue\r\n\r\n")
        if parser.mid_body:
            self.idle = False
            if self._body_deadline is None:
                self._body_deadline = BodyDeadline(self._shared.limits, now)
            else:
                self._body_deadline.received(received, now)
            self._deadline = self._body_deadline.at
        elif self._body_deadline is not None:
            # The end of a body that nobody wanted.
            self._rest(now)
        elif self.idle and parser.mid_request:
            self.idle = False
            self._deadline = now + self._shared.limits.header_timeout_s

    def _error(self, error: ErrorBody, *, close: bool) -> bytes:
        lines = self._shared.refused(error, self._parser.read_head) + error_headers(error)
        always = self._shared.date.at(trio.current_time()) + self._parser.lines
        return whole(error.status, always, lines, error_object(error), close=close)

    async def _linger(self) -> None:
        """Let the peer read the error: closing on unread bytes would reset the connection under it."""
        self._deadline = None
        self._gate.rest()
        self.socket.shutdown(socket.SHUT_WR)
        left = _LINGER_BYTES
        with trio.move_on_after(_LINGER_S):
            while left > 0:
                await trio.lowlevel.wait_readable(self.socket)
                data = self.socket.recv(_READ_BYTES)
                if not data:
                    return
                left -= len(data)
