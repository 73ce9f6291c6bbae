"""An answer that was compressed although nobody asked for it, unpacked within bounds. Sans-IO."""

import zlib
from collections.abc import Callable, Iterable, Iterator

from actors.upstream.failure import garbled

Unpack = Callable[[bytes], Iterable[bytes]]
_PIECE = 1 << 16
"""Bytes that are unpacked at once: a small packet can hold a thousand times as much."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


def unpacker(encoding: str | None) -> Unpack:
    """What makes plain bytes of those that come. Raises Broken for an encoding that is not known."""
    name = (encoding or "identity").strip().lower()
    if name in {"", "identity"}:
        return lambda data: (data,)
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise garbled("it is compressed in a way that is not known, and none was asked for")
    state = zlib.decompressobj(_GZIP_OR_ZLIB)

    def unpack(data: bytes) -> Iterator[bytes]:
        more = True
        while more:
            try:
                piece = state.decompress(data, _PIECE)
            except zlib.error:
                raise garbled("it is not compressed as it says") from None
            data = state.unconsumed_tail
            more = bool(data) or len(piece) == _PIECE
            if piece:
                yield piece

    return unpack
