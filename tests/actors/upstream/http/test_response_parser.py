"""Responses in every framing, whole and cut anywhere, and what is no response."""

import pytest

from actors.upstream.http.errors import ConnectionLostError, InvalidResponseError
from actors.upstream.http.response_parser import MAX_HEAD_BYTES, ResponseParser

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def read(data: bytes, size: int, *, end: bool = False) -> tuple[ResponseParser, bytes]:
    """The parser and the body, fed in pieces of `size` bytes."""
    parser = ResponseParser()
    body = b"".join([parser.feed(data[at : at + size]) for at in range(0, len(data), size)])
    if end:
        parser.feed(b"")
    return parser, body


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("data", "status", "body", "reusable"),
    [
        (OK + b"content-length: 3\r\n\r\nabc", 200, b"abc", True),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
        (OK + b"content-length: 3\r\nconnection: close\r\n\r\nabc", 200, b"abc", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, b"abc", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc", 200, b"abc", True),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde", True),
        (CHUNKED + b"3;x=y\r\nabc\r\n0\r\ntrailer: 1\r\n\r\n", 200, b"abc", True),
        (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 200, b"abc", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 503\r\ncontent-length: 2\r\n\r\nno", 503, b"no", True),
        # Interim responses are skipped.
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 1\r\n\r\na", 200, b"a", True),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK + b"content-length: 1\r\n\r\na", 200, b"a", True),
        # Lines that end with LF alone.
        (b"HTTP/1.1 200 OK\ncontent-length: 3\n\nabc", 200, b"abc", True),
        # What follows a response spoils its connection.
        (OK + b"content-length: 3\r\n\r\nabcd", 200, b"abc", False),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx", 200, b"abc", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nabc", 204, b"", False),
    ],
)
def test_complete_responses(data: bytes, size: int, status: int, body: bytes, *, reusable: bool) -> None:
    parser, found = read(data, size)
    response = parser.response
    assert (response.status, found, response.complete, response.reusable) == (status, body, True, reusable)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("head", [OK, b"HTTP/1.0 200 OK\r\n", OK + b"transfer-encoding: identity\r\n"])
def test_a_response_without_a_length_ends_with_its_connection(head: bytes, size: int) -> None:
    parser, body = read(head + b"\r\nabc", size)
    assert (parser.response.complete, body) == (False, b"abc")
    parser.feed(b"")
    assert (parser.response.complete, parser.response.reusable) == (True, False)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        OK + b"content-length: 3\r\n",
        OK + b"content-length: 3\r\n\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_incomplete_response_is_lost(data: bytes) -> None:
    with pytest.raises(ConnectionLostError, match="closed"):
        read(data, 1000, end=True)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/9.9 hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        OK + b"content-length: x\r\n\r\n",
        OK + b"bad header: 1\r\n\r\n",
        CHUNKED + b"x\r\nabc\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nabc",
        OK + b"x: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1),
    ],
)
def test_what_is_no_response(data: bytes, size: int) -> None:
    with pytest.raises(InvalidResponseError):
        read(data, size)


def test_headers_are_joined_by_name() -> None:
    parser, _ = read(OK + b"X-A: 1\r\nx-a: 2\r\nWarning: caf\xe9\r\ncontent-length: 0\r\n\r\n", 1000)
    assert dict(parser.response.headers) == {"x-a": "1, 2", "warning": "café", "content-length": "0"}


def test_trailers_are_dropped() -> None:
    parser = ResponseParser()
    parser.feed(CHUNKED + b"1\r\na\r\n0\r\n")
    for _ in range(1000):
        parser.feed(b"x: " + b"y" * 1000 + b"\r\n")
    assert not parser.response.complete
    parser.feed(b"\r\n")
    assert parser.response.reusable
    assert "x" not in parser.response.headers


def test_a_body_larger_than_a_head_may_be() -> None:
    body = b"x" * (2 * MAX_HEAD_BYTES)
    parser, found = read(OK + b"content-length: %d\r\n\r\n%b" % (len(body), body), 1 << 20)
    assert (found, parser.response.complete) == (body, True)
