"""A response whose body is a stream of server-sent events."""

from gateway.http.response_head import stream_head
from gateway.http.writer import SocketWriter

_PING = b": ping\n\n"
_CHUNKED_PING = b"%x\r\n%b\r\n" % (len(_PING), _PING)
_LAST_CHUNK = b"0\r\n\r\n"


class EventStream:
    """Head, events and end of one stream, in as few sends as possible.

    The head is held back until the first event, so that an early failure can have its own HTTP status; a
    heartbeat sends it if the first event takes long.
    """

    __slots__ = ("_chunked", "_close", "_date", "_headers", "_sent_at", "_writer", "ended", "is_ready", "started")

    def __init__(
        self, writer: SocketWriter, now: float, date: bytes, headers: bytes, *, chunked: bool, close: bool
    ) -> None:
        self._writer = writer
        self._sent_at = now
        self._date = date
        self._headers = headers
        self._chunked = chunked
        self._close = close
        self.started = False
        """The head was sent."""
        self.is_ready = writer.is_ready
        """Whether everything before was sent."""
        self.ended = False

    def add_headers(self, headers: bytes) -> None:
        """Add header lines; without effect once the head was sent."""
        self._headers += headers

    async def begin(self, now: float) -> None:
        """Send the head before there is an event, with a comment: from here on the status is 200."""
        if not self.started:
            self._sent_at = now
            await self._writer.send(self._head() + self._ping)

    @property
    def _ping(self) -> bytes:
        return _CHUNKED_PING if self._chunked else _PING

    async def send(self, events: bytes, now: float, *, last: bool = False) -> None:
        """Send complete events, with the head before the first ones and the end of the body after the last ones."""
        data = self._framed(events)
        if last and self._chunked:
            data = data + _LAST_CHUNK if events else _LAST_CHUNK
        if not self.started:
            data = self._head() + data
        self._sent_at = now
        self.ended = last
        await self._writer.send(data)

    def send_now(self, events: bytes, now: float) -> bool:
        """Send complete events after the first ones, without waiting, while `is_ready`. False: `flush` is needed."""
        self._sent_at = now
        return self._writer.send_or_keep(self._framed(events))

    async def flush(self) -> None:
        """Send what `send_now` could not."""
        await self._writer.flush()

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Send a comment if nothing was sent for `heartbeat_s`: it keeps proxies open and detects clients that left."""
        if self.ended or now - self._sent_at < heartbeat_s:
            return
        ping = self._ping if self.started else self._head() + self._ping
        if self._writer.send_nowait(ping):
            self._sent_at = now

    def finish(self) -> None:
        """Nothing to do: the service ends the answer when it drains."""

    def _framed(self, events: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(events), events) if self._chunked else events

    def _head(self) -> bytes:
        self.started = True
        return stream_head(self._date, self._headers, chunked=self._chunked, close=self._close)
