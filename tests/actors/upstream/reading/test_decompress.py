"""Decompression is bounded, and malformed data is an error."""

import gzip
import zlib

import pytest

from actors.upstream.failures.failure import UpstreamCallError
from actors.upstream.reading.decompress import unpacker

TEXT = b"data: {}\n\n" * 5000


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("X-GZIP ", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        (None, TEXT),
    ],
)
def test_any_cut_gives_all_of_it(encoding, packed, size):
    unpack = unpacker(encoding)
    pieces = [piece for start in range(0, len(packed), size) for piece in unpack(packed[start : start + size])]
    assert b"".join(pieces) == TEXT


def test_a_small_packet_is_never_held_unpacked():
    bomb = gzip.compress(bytes(50 << 20))
    assert len(bomb) < 65_536
    unpack, total = unpacker("gzip"), 0
    for piece in unpack(bomb):
        assert len(piece) <= 65_536
        total += len(piece)
    assert total == 50 << 20


@pytest.mark.parametrize("packed", [b"not packed at all", gzip.compress(TEXT, mtime=0)[:10] + b"\xff" * 40])
def test_what_is_not_packed_as_it_says(packed):
    with pytest.raises(UpstreamCallError) as caught:
        list(unpacker("gzip")(packed))
    assert caught.value.failure.kind == "upstream_garbled"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_ways_that_are_not_known(encoding):
    with pytest.raises(UpstreamCallError):
        unpacker(encoding)
