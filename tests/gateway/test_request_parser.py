"""The parser without a socket: however the bytes are cut, the requests are the same."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import HttpError
from gateway.server.limits import Limits
from gateway.server.request import RequestParser

LIMITS = Limits(max_body_bytes=64, max_headers=4, max_head_bytes=256)


def fed(parts: list[bytes]) -> tuple[list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]], int | None]:
    parser = RequestParser(LIMITS)
    status = None
    for part in parts:
        try:
            parser.feed(part, 1.0)
        except HttpError as error:
            status = error.body.status
            break
    return [(each.method, each.path, each.headers, each.body) for each in parser.requests], status


bodies = st.binary(max_size=40)
requests = st.tuples(
    st.sampled_from([b"GET", b"POST", b"PUT"]), st.sampled_from([b"/", b"/a?b=c", b"*"]), bodies, st.booleans()
)


def wire(method: bytes, target: bytes, body: bytes, chunked: bool) -> bytes:
    head = b"%b %b HTTP/1.1\r\nHost: t\r\n" % (method, target)
    if chunked:
        chunks = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part])
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@given(st.lists(requests, min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_cuts_do_not_matter(asked: list[tuple[bytes, bytes, bytes, bool]], cuts: list[int]) -> None:
    data = b"".join([wire(*each) for each in asked])
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    parts = [data[start:end] for start, end in itertools.pairwise(edges) if end > start]
    read, status = fed(parts)
    assert status is None
    assert [(method, body) for method, _, _, body in read] == [(method, body) for method, _, body, _ in asked]
    assert (read, status) == fed([data])


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_are_either_read_or_refused(parts: list[bytes]) -> None:
    _, status = fed(parts)
    assert status in {None, 400, 413, 431, 505}


def test_bounds_are_exact() -> None:
    head = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
    assert fed([head % 64 + b"x" * 64])[1] is None
    assert fed([head % 65])[1] == 413
    assert fed([b"GET / HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 3 + b"\r\n"])[1] is None
    assert fed([b"GET / HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 4 + b"\r\n"])[1] == 431


def test_what_follows_an_upgrade_is_not_http() -> None:
    parser = RequestParser(LIMITS)
    head = b"GET /v1/stream HTTP/1.1\r\nHost: t\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"
    parser.feed(head + b"\x81\x00", 2.0)
    (request,) = parser.requests
    assert (request.upgrade, request.keep_alive, request.arrived_at, parser.trailing) == (True, False, 2.0, b"\x81\x00")
