"""The parser without a socket: however the bytes are cut, the requests are the same."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from actors.api.errors import Refusal
from gateway.http.bounds.body_book import BodyAccount, BodyBook
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.gate import Route
from gateway.http.request import Request
from gateway.http.request_parser import RequestParser

LIMITS = ServerLimits(max_body_bytes=64, max_headers=4, max_head_bytes=256)


async def never(connection: Connection, request: Request) -> None:
    raise AssertionError


def parser_of(limits: ServerLimits) -> RequestParser:
    """One whose bodies are wanted."""
    return RequestParser(limits, lambda _: Route(never, body=True), BodyAccount(BodyBook(limits), "peer"))


def fed(parts: list[bytes]) -> tuple[list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]], int | None]:
    parser = parser_of(LIMITS)
    status = None
    for part in parts:
        try:
            parser.feed(part, 1.0)
        except Refusal as error:
            status = error.body.status
            break
    return [(each.method, each.path, each.headers, each.body) for each, _ in parser.requests], status


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
    parser = parser_of(LIMITS)
    head = b"GET /v1/stream HTTP/1.1\r\nHost: t\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"
    parser.feed(head + b"\x81\x00", 2.0)
    ((request, _),) = parser.requests
    assert (request.upgrade, request.keep_alive, request.arrived_at, parser.trailing) == (True, False, 2.0, b"\x81\x00")


def test_a_wish_for_another_protocol_is_ignored_and_the_body_read() -> None:
    head = b"POST /v1 HTTP/1.1\r\nHost: t\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    head += b"Connection: Upgrade, HTTP2-Settings\r\n"
    sized = head + b"Content-Length: 3\r\n\r\nabc"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    data = sized + chunked + head.replace(b"POST", b"GET") + b"\r\n" + wire(b"PUT", b"/", b"xyz", False)
    wide = ServerLimits(max_headers=8)
    for size in (len(data), 1, 7):
        parser = parser_of(wide)
        for at in range(0, len(data), size):
            parser.feed(data[at : at + size], float(at))
        read = [(each.method, each.body, each.upgrade, each.keep_alive) for each, _ in parser.requests]
        assert read == [
            (b"POST", b"abc", False, True),
            (b"POST", b"abc", False, True),
            (b"GET", b"", False, True),
            (b"PUT", b"xyz", False, True),
        ]
        assert parser.requests[0][0].arrived_at == 0.0
        assert not parser.mid_request


def test_bounds_hold_without_the_upgrade() -> None:
    head = b"POST / HTTP/1.1\r\nHost: t\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n"
    assert fed([head + b"Content-Length: 65\r\n\r\n"])[1] == 413
    assert fed([head + b"Transfer-Encoding: chunked\r\n\r\n41\r\n" + b"x" * 65])[1] == 413
    parser = parser_of(LIMITS)
    parser.feed(head + b"Content-Length: 1\r\n\r\nx", 1.0)
    assert [(each.body, each.keep_alive) for each, _ in parser.requests] == [(b"x", False)]


def test_absolute_targets() -> None:
    asked = {
        b"http://t/a?b=c": (b"/a", b"b=c"),
        b"HTTPS://t:80": (b"/", b""),
        b"http://t?x": (b"/", b"x"),
        b"*": (b"*", b""),
    }
    for target, expected in asked.items():
        parser = parser_of(LIMITS)
        parser.feed(b"OPTIONS %b HTTP/1.1\r\nHost: t\r\n\r\n" % target, 1.0)
        ((request, _),) = parser.requests
        assert (request.path, request.query) == expected
