"""One WebSocket: own handshake, frames by wsproto, all sends through one task that merges what is ready.

No compression is offered: it would cost more time per token than it saves, and memory for every connection.
"""

import base64
import struct

import trio
from wsproto.connection import Connection as WsProtocol
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token

from gateway.errors import ClientGone, HttpError
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.cors import origin_error
from gateway.http.request import SOCKET_PROTOCOL, Request, offered_protocols

_READ_BYTES = 64 * 1024
_OUTBOX_MESSAGES = 64
_CLOSE_WAIT_S = 2.0
_FRAMES_BEFORE_CHECKPOINT = 16
_TINY_BYTES = 512
_TEXT = 0x81
_NONCE_BYTES = 16
UPGRADE = b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
"""Required in every 426 response (RFC 9110, 15.5.22; RFC 6455, 4.4)."""


class PeerClosed(Exception):  # noqa: N818  (it is an event, not a fault)
    """The peer has closed with this code, or violated the protocol."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class WebSocket:
    """An accepted WebSocket.

    Call `receive` in one task only, and always again, or closes and pings go unseen. `send` from any task:
    it waits while `_OUTBOX_MESSAGES` are unsent, so a slow reader slows its senders.

    Each frame and each tiny packet of the peer counts as a message for the connection's rate limit, and an incomplete
    message counts as a body.
    """

    def __init__(self, connection: Connection, trailing: bytes, limits: ServerLimits) -> None:
        self._connection = connection
        self._protocol = WsProtocol(ConnectionType.SERVER, trailing_data=trailing)
        self._events = self._protocol.events()
        self._limits = limits
        self._message: list[str] = []
        self._message_bytes = 0
        self._message_began_at: float | None = None
        self._frames = 0
        self._read_bytes = 0
        self._outbox, self._outgoing = trio.open_memory_channel[bytes](_OUTBOX_MESSAGES)
        self._heard_at = trio.current_time()
        self._pinged_at = self._heard_at
        self._unsent = 0
        self._reads_at = self._heard_at
        self._reply_to_close: Event | None = None

    async def receive(self) -> str | None:
        """The next text message; None for a binary one, which is not supported. Raises `PeerClosed`."""
        while True:
            frames = self._frames
            for event in self._events:
                await self._pace()
                match event:
                    case TextMessage() | BytesMessage():
                        self._take(event)
                        if event.message_finished:
                            return self._whole(event)
                    case Ping():
                        # Lost if the outbox is full: the messages in it then show the peer that the server is alive.
                        self._post(event.response())
                    case CloseConnection():
                        self._reply_to_close = event.response()
                        raise PeerClosed(int(event.code))
            if self._frames == frames and 0 < self._read_bytes < _TINY_BYTES:
                # Frames that arrive byte by byte count like complete ones.
                await self._pace()
            await self._read()

    async def send(self, *texts: bytes) -> None:
        """Send each argument as one text message in UTF-8."""
        await self._outbox.send(b"".join([_text_frame(text) for text in texts]))

    async def run_sends(self) -> None:
        """Send the queued messages, merged, until cancelled. One task must run this. Raises `ClientGone`."""
        async for frame in self._outgoing:
            await self._connection.writer.send(frame + self._ready_frames())

    async def close(self, code: int, reason: str) -> None:
        """Send the remaining messages and the close frame; wait briefly for the peer's. `run_sends` must have ended."""
        if self._connection.writer.torn:
            raise ClientGone
        if self._reply_to_close is not None:
            await self._connection.writer.send(self._protocol.send(self._reply_to_close))
            return
        frames = self._ready_frames()
        await self._connection.writer.send(frames + self._protocol.send(CloseConnection(code, reason)))
        with trio.move_on_after(_CLOSE_WAIT_S):
            try:
                while True:
                    await self.receive()
            except PeerClosed:
                return

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Ping a silent peer; close one that did not answer the last ping, unless it is still reading."""
        writer = self._connection.writer
        if self._message_began_at is not None and now - self._message_began_at > self._limits.body_timeout_s:
            # An incomplete message would stay in memory as long as the peer likes.
            self._connection.cancel()
            return
        before, self._unsent = self._unsent, writer.unsent()
        # A ping behind unsent data is read late, or was not sent; a blocked send has the writer's own timeout.
        reads = writer.waiting or self._unsent < before
        if reads and self._unsent and self._pinged_at > self._heard_at:
            self._reads_at = now
        if now - max(self._heard_at, self._pinged_at, self._reads_at) < heartbeat_s:
            return
        if self._pinged_at > max(self._heard_at, self._reads_at):
            self._connection.cancel()
            return
        self._pinged_at = now
        self._post(Ping())

    def _take(self, part: TextMessage | BytesMessage) -> None:
        data = part.data
        size = len(data) if isinstance(data, bytes | bytearray) or data.isascii() else len(data.encode())
        if self._message_bytes + size > self._limits.max_body_bytes:
            raise PeerClosed(CloseReason.MESSAGE_TOO_BIG)
        try:
            self._connection.account.take(size)
        except HttpError as error:
            raise PeerClosed(CloseReason.TRY_AGAIN_LATER) from error
        self._message_bytes += size
        if self._message_began_at is None:
            self._message_began_at = trio.current_time()
        if isinstance(data, str) and data:
            self._message.append(data)

    def _whole(self, last: TextMessage | BytesMessage) -> str | None:
        text = "".join(self._message) if isinstance(last, TextMessage) else None
        self._message = []
        self._connection.account.give(self._message_bytes)
        self._message_bytes = 0
        self._message_began_at = None
        return text

    async def _pace(self) -> None:
        self._frames += 1
        if wait_s := self._connection.slow_down(trio.current_time()):
            await trio.sleep(wait_s)
        elif self._frames % _FRAMES_BEFORE_CHECKPOINT == 0:
            await trio.lowlevel.checkpoint()

    def _post(self, control: Event) -> None:
        try:
            self._outbox.send_nowait(self._protocol.send(control))
        except (trio.WouldBlock, LocalProtocolError):
            return

    def _ready_frames(self) -> bytes:
        frames = []
        while True:
            try:
                frames.append(self._outgoing.receive_nowait())
            except trio.WouldBlock:
                return b"".join(frames)

    async def _read(self) -> None:
        try:
            data = await self._connection.receive(_READ_BYTES)
        except OSError as error:
            raise ClientGone from error
        if not data:
            raise ClientGone
        self._heard_at = trio.current_time()
        self._read_bytes = len(data)
        self._protocol.receive_data(data)
        self._events = self._protocol.events()


async def accept(connection: Connection, request: Request, origins: frozenset[str]) -> bytes:
    """Answer the handshake; returns the bytes that followed it. Raises `HttpError` if it is refused."""
    key = request.header(b"sec-websocket-key")
    if not request.upgrade or key is None:
        raise HttpError(
            426, "upgrade_required", "This address is for WebSocket connections only: see docs/websocket.md."
        )
    if request.header(b"sec-websocket-version") != b"13":
        raise HttpError(426, "websocket_version", "Only version 13 of the WebSocket protocol is supported.")
    if request.version != "1.1":
        raise HttpError(400, "bad_request", "A WebSocket handshake must use HTTP/1.1.")
    if not _is_nonce(key):
        raise HttpError(400, "bad_websocket_key", "Sec-WebSocket-Key must be 16 random bytes in base64.")
    origin = request.header(b"origin")
    if origin is not None and origin.decode("latin1") not in origins:
        raise origin_error()
    trailing = connection.begin_upgrade()
    await connection.writer.send(
        b"HTTP/1.1 101 Switching Protocols\r\nserver: penstock\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%b\r\n" % (generate_accept_token(key), _protocol_line(request))
    )
    return trailing


def _protocol_line(request: Request) -> bytes:
    """The selected subprotocol: a browser that offered some requires one. Never the one with the key."""
    return b"sec-websocket-protocol: %b\r\n" % SOCKET_PROTOCOL if SOCKET_PROTOCOL in offered_protocols(request) else b""


def _is_nonce(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _NONCE_BYTES
    except ValueError:
        return False


def _text_frame(text: bytes) -> bytes:
    """An unmasked, final text frame (RFC 6455, 5.2); wsproto's own function is many times slower."""
    size = len(text)
    if size < 126:
        return b"%c%c%b" % (_TEXT, size, text)
    if size < 65536:
        return struct.pack("!BBH", _TEXT, 126, size) + text
    return struct.pack("!BBQ", _TEXT, 127, size) + text
