"""Messages between processes over pipes: MessagePack with a length prefix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

_LENGTH_BYTES = 8
MOST_BYTES = 2**28
"""A longer frame is a defect of its sender."""
T = TypeVar("T")


def plain(value: Any) -> Any:
    """Encode subclasses of float and int, and paths, as their base types."""
    for kind in (float, int):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError


def frame(message: msgspec.Struct, enc_hook: Callable[[Any], Any] = plain) -> bytes:
    """A message with its length prefix."""
    body = msgspec.msgpack.encode(message, enc_hook=enc_hook)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + body


def read_frame(pipe: BinaryIO, kind: type[T]) -> T | None:
    """The next message; None: the other side has closed the pipe."""
    head = pipe.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    body = pipe.read(length)
    if len(body) < length:
        return None
    return msgspec.msgpack.decode(body, type=kind, dec_hook=lambda type_, value: type_(value))


class FrameBuffer:
    """Makes messages of the bytes that a pipe gives, wherever they are cut."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that are complete now, in order. Raises ValueError for one of more than `MOST_BYTES`."""
        buffer = self._bytes
        buffer += data
        bodies, at = [], 0
        while len(buffer) - at >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[at : at + _LENGTH_BYTES], "little")
            if length > MOST_BYTES:
                raise ValueError(f"a message of {length} bytes: {MOST_BYTES} are allowed")
            end = at + _LENGTH_BYTES + length
            if len(buffer) < end:
                break
            bodies.append(bytes(buffer[at + _LENGTH_BYTES : end]))
            at = end
        del buffer[:at]
        return bodies
