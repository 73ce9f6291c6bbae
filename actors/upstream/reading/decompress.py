"""Bounded decompression of responses that are compressed although none was requested. Sans-IO."""

import zlib
from collections.abc import Callable, Iterable, Iterator

from actors.upstream.failures.failure import garbled

Decompressor = Callable[[bytes], Iterable[bytes]]
_PIECE = 1 << 16
"""Maximum bytes per decompression step: compression ratios can exceed 1000."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


_COMPRESSED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz", "lzma", "xz", "lz4", "snappy"})


def unpacker(encoding: str | None) -> Decompressor:
    """The function that decompresses the body. Raises UpstreamCallError for an unsupported encoding."""
    if encoding is None:
        return _as_it_is
    names = {name.strip().lower() for name in encoding.split(",")}
    if names & {"gzip", "x-gzip", "deflate"} and len(names - {"", "identity"}) == 1:
        return _Inflater()
    if names & {"gzip", "x-gzip", "deflate", *_COMPRESSED}:
        raise garbled("it is compressed in an unknown way, and no compression was requested")
    # Some servers put a charset ("utf-8") or "none" here.
    return _as_it_is


def _as_it_is(data: bytes) -> tuple[bytes]:
    return (data,)


class _Inflater:
    """gzip, zlib, or raw deflate; several members in sequence, as written by proxies that flush every packet."""

    def __init__(self) -> None:
        self._state = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._began = False

    def __call__(self, data: bytes) -> Iterator[bytes]:
        while data:
            data, piece = self._some(data)
            if piece:
                yield piece
            elif not data:
                return
            while len(piece) == _PIECE and not data:
                # zlib may hold more output that needs no further input.
                data, piece = self._some(b"")
                if piece:
                    yield piece

    def _some(self, data: bytes) -> tuple[bytes, bytes]:
        """(remaining input, output)."""
        if self._state.eof:
            self._state = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            piece = self._state.decompress(data, _PIECE)
        except zlib.error:
            if self._began:
                raise garbled("it is not compressed as it says") from None
            self._began = True
            self._state = zlib.decompressobj(-zlib.MAX_WBITS)
            return self._some(data)
        self._began = self._began or bool(piece)
        return self._state.unconsumed_tail or self._state.unused_data, piece
