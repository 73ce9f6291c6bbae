"""A connection as the handler of a request sees it: the response, the peer, and the memory of unfinished messages."""

import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from actors.api.errors import ErrorBody
from gateway.errors import ClientGone
from gateway.http.bounds.body_book import BodyAccount
from gateway.http.bounds.limits import ServerLimits
from gateway.http.bounds.token_bucket import TokenBucket
from gateway.http.event_stream import EventStream
from gateway.http.request import Request
from gateway.http.response_head import error_headers, sized_head, whole
from gateway.http.writer import SocketWriter

INTERNAL_ERROR = ErrorBody(
    500, "server_error", "internal_error", "The server failed on this request; its log says why.", should_retry=True
)


ErrorFormat = Callable[[ErrorBody, Request | None], bytes]
"""Writes an error's body in the format of the API that the request is for; None: that is not known."""


class Ticking(Protocol):
    """The part of a response that needs the clock while its handler waits."""

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Called every `ServerLimits.tick_s`."""

    def finish(self) -> None:
        """The server is closing: end when running requests have ended."""


class Connection:
    """One socket with the response in progress.

    Its only cancel scope is also the request's: if the client hangs up while `watching`, the handler is cancelled.
    """

    def __init__(
        self, sock: socket.socket, limits: ServerLimits, account: BodyAccount, error_format: ErrorFormat
    ) -> None:
        self.socket = sock
        self.writer = SocketWriter(sock, limits.write_stall_s)
        self.account = account
        """Counts the bytes of incomplete messages."""
        self.scope = trio.CancelScope()
        self.trailing = b""
        """Bytes that followed an upgrade request."""
        self._arrived = False
        """Something may be there to receive."""
        self._reader: trio.lowlevel.Task | None = None
        """Waits for that."""
        self.read_piece: Callable[[], Awaitable[bytes]] | None = None
        """Set by the connection's task for a request whose body its handler reads."""
        self.gone = False
        """The peer has hung up."""
        self.watching = False
        """The handler is to be cancelled when the peer hangs up."""
        self.ticking: Ticking | None = None
        self.keep_alive = False
        """Another request may follow."""
        self.answered = False
        """A complete response was sent, or the protocol switched."""
        self.slow_down = TokenBucket(limits.messages_per_s, trio.current_time()).take
        """Counts one message. Returns for how many seconds not to read, so that other connections get their turn."""
        self._lines = b""
        self._without_body = False
        self._error_format = error_format
        self._request: Request | None = None
        """The one that is answered."""

    def begin(self, request: Request, lines: bytes, *, keep_alive: bool) -> None:
        """A request goes to its handler; `lines` are the first headers of each response to it."""
        self.answered = False
        self.keep_alive = keep_alive
        self._lines = lines
        self._without_body = request.method == b"HEAD"
        self._request = request

    def end(self, request: Request) -> None:
        """The handler has returned."""
        self.watching = False
        self.ticking = None
        self.read_piece = None
        self._request = None
        if request.body:
            self.drop_body(request)

    def cancel(self) -> None:
        self.scope.cancel()

    async def receive(self, max_bytes: int) -> bytes:
        """What arrives next; b"": the end. Always a checkpoint. Raises OSError."""
        while True:
            if self._arrived:
                await trio.lowlevel.checkpoint()
            else:
                self._reader = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
            self._arrived = False
            try:
                data = self.socket.recv(max_bytes)
            except BlockingIOError:
                continue
            # Less is all that was there, but for the end, which may have come in the same event.
            self._arrived = len(data) == max_bytes or self.gone
            return data

    def readable(self) -> None:
        """Something has arrived."""
        self._arrived = True
        if self._reader is not None:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED

    def hung_up(self) -> None:
        """The peer has closed its side: cancel a handler that watches, even if there is unread data."""
        self.gone = True
        if self.watching:
            self.scope.cancel()

    def watch(self) -> None:
        """Cancel the handler on a hang-up from now on. Raises `ClientGone` if the client has hung up already."""
        if self.gone:
            raise ClientGone
        self.watching = True

    def begin_upgrade(self) -> bytes:
        """Switch to another protocol: no further request is read. Returns the bytes read after the request."""
        self.keep_alive = False
        self.answered = True
        trailing, self.trailing = self.trailing, b""
        return trailing

    def drop_body(self, request: Request) -> None:
        """Free the memory of a body that has been decoded."""
        self.account.give(len(request.body))
        request.body = b""

    def tick_for(self, ticking: Ticking) -> None:
        """Call `ticking.tick` periodically until this request ends."""
        self.ticking = ticking

    async def respond(self, status: int, headers: bytes, body: bytes, *, close: bool = False) -> None:
        """Send a complete response; `headers` are lines that end in CRLF."""
        self.answered = True
        if close:
            self.keep_alive = False
        data = whole(status, self._lines, headers, body, close=not self.keep_alive, without_body=self._without_body)
        await self.writer.send(data)

    async def next_piece(self) -> bytes:
        """More of the body of a request that is routed `piecewise`; b"" at its end.

        Raises Refusal for a body that is malformed, too long or too slow, and ClientGone.
        """
        assert self.read_piece is not None, "only for such a route"
        return await self.read_piece()

    async def respond_sized(self, headers: bytes, size: int) -> None:
        """Send the head of a response whose body of `size` bytes follows by `send_part`."""
        self.answered = True
        await self.writer.send(sized_head(200, self._lines, headers, size, close=not self.keep_alive))

    async def send_part(self, data: bytes) -> None:
        await self.writer.send(data)

    async def respond_error(self, error: ErrorBody, headers: bytes = b"", *, close: bool = False) -> None:
        """Send an error in the format of the API that the request is for."""
        body = self._error_format(error, self._request)
        await self.respond(error.status, headers + error_headers(error), body, close=close)

    def event_stream(self, request: Request, headers: bytes, *, close: bool = False) -> EventStream:
        """Begin a response of server-sent events. Until it has `started`, an HTTP error can be sent instead."""
        chunked = request.version == "1.1"
        if close or not chunked:
            self.keep_alive = False
        stream = EventStream(
            self.writer, trio.current_time(), self._lines, headers, chunked=chunked, close=not self.keep_alive
        )
        self.ticking = stream
        return stream
