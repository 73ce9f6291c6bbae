"""One request over Penstock's WebSocket: the handshake, the frames, the messages. Sans-IO, on wsproto."""

from collections.abc import Callable

import wsproto
import wsproto.events
import wsproto.utilities

from loadtests.client import failures
from loadtests.client.answer import Answer
from loadtests.client.socket_reader import SocketReader

_LONGEST_MESSAGE = 4 * 2**20


class SocketExchange:
    """`take` bytes until it returns False; `accepted` then tells whether the handshake is over."""

    def __init__(self, answer: Answer, *, stop: Callable[[], bool] | None, send: Callable[[bytes], None]) -> None:
        """`stop`: as of `HttpExchange`. `send`: what the protocol answers by itself, such as a pong."""
        self.answer = answer
        self.accepted = False
        self.received = False
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._reader = SocketReader(answer)
        self._message: list[str | bytes] = []
        self._size = 0
        self._refusal = bytearray()
        self._stop = stop
        self._send = send

    def handshake(self, host: str, target: str, header_lines: bytes) -> bytes:
        """The request for a WebSocket."""
        lines = [line.split(b": ", 1) for line in header_lines.split(b"\r\n") if line]
        headers = [(name, value) for name, value in lines]
        return self._connection.send(wsproto.events.Request(host=host, target=target, extra_headers=headers))

    def message(self, data: bytes) -> bytes:
        """The frame of a text message."""
        return self._connection.send(wsproto.events.TextMessage(data.decode()))

    def take(self, data: bytes, at: float) -> bool:
        self.received = self.received or bool(data)
        try:
            self._connection.receive_data(data or None)
            for event in self._connection.events():
                if not self._event(event, at):
                    return False
        except wsproto.utilities.ProtocolError as error:
            self.answer.fail(failures.GARBLED, f"not a WebSocket: {error}")
            self.lost(at, str(error))
            return False
        if not data:
            self.lost(at, "the connection was closed")
            return False
        return self._stop is None or not self._stop()

    def lost(self, at: float, why: str) -> None:
        """The connection has failed."""
        if not self.answer.status:
            self.answer.fail(failures.CONNECT_FAILED, why or "closed during the handshake")
        self.answer.ended(at, in_order=False, why=why)

    def _event(self, event: wsproto.events.Event, at: float) -> bool:
        match event:
            case wsproto.events.AcceptConnection():
                self.accepted = True
                self.answer.begin(200, {}, at)
                return False
            case wsproto.events.RejectConnection(status_code=status, headers=headers):
                named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
                self.answer.begin(status, named, at)
                if not event.has_body:
                    self._refused(at)
                    return False
            case wsproto.events.RejectData(data=data, body_finished=finished):
                self._refusal += data[: _LONGEST_MESSAGE - len(self._refusal)]
                if finished:
                    self._refused(at)
                    return False
            case wsproto.events.Message(data=data, message_finished=finished):
                self._message.append(bytes(data) if isinstance(data, bytearray) else data)
                self._size += len(data)
                if self._size > _LONGEST_MESSAGE:
                    self.answer.fail(failures.GARBLED, f"a message of more than {_LONGEST_MESSAGE >> 20} MiB")
                    self.lost(at, "")
                    return False
                if finished:
                    whole = "".join([each if isinstance(each, str) else each.decode() for each in self._message])
                    self._message.clear()
                    self._size = 0
                    return self._reader.message(whole, at)
            case wsproto.events.Ping():
                self._send(self._connection.send(event.response()))
            case wsproto.events.CloseConnection(code=code, reason=reason):
                self.lost(at, f"the WebSocket was closed: {code} {reason or ''}".strip())
                return False
        return True

    def _refused(self, at: float) -> None:
        self.answer.error(bytes(self._refusal))
        self.answer.ended(at, in_order=True)
