"""Faults of HTTP connections, each with a real socket.

The whole list of traps, and the tests that spring them:

| trap | test |
| --- | --- |
| a handshake with bytes in the same packet ends the process | test_websocket_faults: bytes_behind_the_handshake |
| bursts of bad chunked POSTs end the process | bad_chunks |
| a handler's crash, alone or mixed with cancellation, ends the process | crashes |
| idle connections are never closed and hold SIGTERM | idle_connections, test_drain (e2e) |
| a client that never reads holds the server | never_reading |
| idle connections take the last descriptors, and nobody is answered | no_descriptors_left |
| HTTP/2 without backpressure | no_http_2 |
| a disconnect unnoticed while nothing is sent | test_stream_faults: gone_while_silent |
| a gone client behind pipelined bytes | test_stream_faults: gone_behind_pipelined_bytes |
| a silent stream looks dead | test_stream_faults: heartbeats |
| a framework's timeout cuts streams | test_stream_faults: no_timeout_of_the_framework |
| drain cuts streams without a terminator | test_stream_faults: drain |
| a truncated stream looks like success | test_stream_faults: truncated_is_no_success |
| a push-only WebSocket is deaf to a close | test_websocket_faults: push_only |
| WebSocket pings are off | test_websocket_faults: pings |
| an exception in a WebSocket handler closes with 1000 | test_websocket_faults: crash_closes_with_1011 |
| an empty binary frame is None | test_websocket_faults: empty_binary_frame |
| Content-Length with Transfer-Encoding is accepted | refused_requests |
| headers without bound, slow heads and bodies | refused_requests, slow_senders |
| errors without the headers that clients decide retries by | retry_headers |
"""

import contextlib
import errno
import socket

import msgspec
import pytest
import structlog
import trio

from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.gate import Route
from gateway.http.request import Request
from gateway.http.server import Server, listen
from tests.gateway.fakes import FakeService, answer
from tests.gateway.harness import CHAT, STREAM, UPGRADE, Gateway, gateway
from tests.patience import PATIENCE_S

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: t\r\n"


async def test_bad_chunks() -> None:
    async with gateway(FakeService()) as running:
        for _ in range(20):
            clients = [await running.connect() for _ in range(5)]
            for client in clients:
                await client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n" * 3)
            for client in clients:
                response = await client.response()
                assert (response.status, response.error["code"]) == (400, "bad_request")
                assert await client.ended() == b""
        assert (await (await running.connect()).request("/v1/chat/completions", CHAT)).status == 200


async def test_crashes() -> None:
    async def crash(connection: Connection, request: Request) -> None:
        async def fail_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("mixed")

        if request.path == b"/alone":
            raise ValueError("alone")
        if request.path == b"/mixed":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
                await trio.lowlevel.checkpoint()
                connection.cancel()
        await connection.respond(200, b"", b"fine")

    server = Server(listen("127.0.0.1", 0), ServerLimits(), lambda _: Route(crash))
    running = Gateway(server, server.port)
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            alone, mixed, fine = [await running.connect() for _ in range(3)]
            response = await alone.get("/alone")
            assert (response.status, response.error["code"]) == (500, "internal_error")
            await mixed.send(b"GET /mixed HTTP/1.1\r\nHost: t\r\n\r\n")
            assert await mixed.ended() == b""
            assert (await fine.get("/fine")).body == b"fine"
            running.close_clients()
            await server.finish(0)
    assert [each["event"] for each in logs] == ["handler_failed", "connection_failed"]


class FewDescriptors(socket.socket):
    """A listener whose process can have `left` more sockets open."""

    left = 3

    def accept(self) -> tuple[socket.socket, object]:
        if not self.left:
            raise OSError(errno.EMFILE, "Too many open files")
        accepted = super().accept()
        self.left -= 1
        return accepted


async def test_no_descriptors_left() -> None:
    async def livez(connection: Connection, _: Request) -> None:
        await connection.respond(200, b"", b"fine")

    plain = listen("127.0.0.1", 0)
    listener = FewDescriptors(fileno=plain.detach())
    server = Server(listener, ServerLimits(), lambda _: Route(livez))
    running = Gateway(server, server.port)
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            idle = [await running.connect() for _ in range(3)]
            late = await running.connect()
            for client in idle:
                assert await client.ended() == b""
            listener.left = 3
            assert (await late.get("/livez")).body == b"fine"
            running.close_clients()
            await server.finish(0)
    assert [each["event"] for each in logs] == ["accept_failed"]


async def test_idle_connections() -> None:
    async with gateway(FakeService(), keep_alive=0.1) as running:
        unused, used, site = [await running.connect() for _ in range(3)]
        await used.request("/v1/chat/completions", CHAT)
        await site.get("/livez")
        assert await used.ended() == b""
        assert await site.ended() == b""
        await unused.aclose()
    async with gateway(FakeService()) as running:
        unused, used, site = [await running.connect() for _ in range(3)]
        await used.request("/v1/chat/completions", CHAT)
        await site.get("/livez")
        with trio.fail_after(PATIENCE_S):
            await running.server.finish(10 * PATIENCE_S)
        for client in (unused, used, site):
            assert await client.ended() == b""


async def test_after_a_hand_over_each_connection_gets_one_more_answer() -> None:
    release = trio.Event()
    service = FakeService(lambda _: [release.wait, *answer("x")])
    async with gateway(service) as running:
        unused, idle, busy = [await running.connect() for _ in range(3)]
        await idle.get("/livez")
        await busy.post("/v1/chat/completions", CHAT)
        await service.opened.wait()
        running.server.hand_over()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))
        for client in (unused, idle):
            found = await client.get("/livez")
            assert (found.status, found.headers["connection"]) == (200, "close")
            assert await client.ended() == b""
        release.set()
        assert (await busy.response()).status == 200
        await running.server.closed()


@pytest.mark.parametrize("finish", [False, True])
async def test_never_reading(finish: bool) -> None:
    endless = FakeService(lambda _: [*answer(*["x" * 60_000] * 1000)])
    async with gateway(endless, write_stall=10 * PATIENCE_S if finish else 0.2) as running:
        client = await running.connect(receive_buffer=4096)
        await client.post("/v1/chat/completions", STREAM)
        await endless.opened.wait()
        if finish:
            with trio.fail_after(PATIENCE_S):
                await running.server.finish(0.1)
        await endless.responses[0].closed.wait()
        assert b"[DONE]" not in await client.ended()


async def test_no_http_2() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert (await client.response()).status == 505
        client = await running.connect()
        response = await client.get("/livez", headers="Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n")
        assert response.status == 200
        assert "upgrade" not in response.headers


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "bad_request"),
        (HEAD + b"Content-Length: -3\r\n\r\nabc", 400, "bad_request"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Host: u\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: t\r\nA: b\r\n folded\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost : t\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: t\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: t\r\nA: " + b"b" * 200_000, 431, "headers_too_large"),
        (b"GET /" + b"b" * 200_000, 431, "headers_too_large"),
        (HEAD + b"Content-Length: 2000000\r\n\r\n", 413, "body_too_large"),
        (HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "bad_request"),
        (HEAD + b"Content-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, 413, "body_too_large"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20,
            413,
            "body_too_large",
        ),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"x" * 3_000_000, 413, "body_too_large"),
    ],
)
async def test_refused_requests(request_bytes: bytes, status: int, code: str) -> None:
    async with gateway(FakeService(), limits={"max_body_bytes": 1_000_000}) as running:
        client = await running.connect()
        with contextlib.suppress(trio.BrokenResourceError):  # the server may say no before the last byte is sent
            await client.send(request_bytes)
        response = await client.response()
        assert (response.status, response.error["code"]) == (status, code)
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["connection"] == "close"
        assert (await (await running.connect()).request("/v1/chat/completions", CHAT)).status == 200


@pytest.mark.parametrize(
    ("part", "answered"),
    [
        (b"", False),
        (b"POST /v1/comp", True),
        (b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nA: b", True),
        (HEAD + b"Content-Length: 10\r\n\r\n{", True),
    ],
)
async def test_slow_senders(part: bytes, answered: bool) -> None:
    async with gateway(FakeService(), header_timeout=0.1) as running:
        client = await running.heard(part) if answered else await running.connect()
        said = await client.ended()
        assert said.startswith(b"HTTP/1.1 408 ") if answered else said == b""
        await client.aclose()
        # One that has been answered before has no more time than another.
        client = await running.heard(b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await client.response()).status == 200
        if part:
            await client.send(part)
            assert (await client.ended()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/chat/completions", b"{", "", 400),
        ("/v1/chat/completions", {**CHAT, "n": 99}, "", 400),
        ("/v1/chat/completions", CHAT, "X-Penstock-Tags: " + "a," * 40 + "\r\n", 400),
        ("/v1/completions", b"{}", "", 400),
        ("/v1/moderations", b"{}", "", 400),
        ("/v1/images/generations", b"{}", "", 404),
        ("/v1/models", b"{}", "", 405),
        ("/v1/stream", b"{}", "", 405),
        ("/nowhere", b"", "", 404),
    ],
)
async def test_retry_headers(path: str, body: object, headers: str, status: int) -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).request(path, body, headers=headers)
        assert response.status == status
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["content-type"] == "application/json"
        assert set(response.error) == {"message", "type", "param", "code"}


async def test_a_refusal_can_be_read_by_one_who_still_sends() -> None:
    """Closing on unread bytes would reset the connection, and on a real network the answer could be lost."""
    async with gateway(FakeService(), limits={"max_body_bytes": 1000}) as running:
        client = await running.connect()
        await client.send(HEAD + b"Content-Length: 1000000\r\n\r\n")
        await client.send(b"x" * 300_000)
        assert (await client.response()).status == 413
        await client.send(b"x" * 300_000)
        await client.stream.send_eof()
        assert await client.stream.receive_some() == b""


def _fill(start: bytes, item: bytes, end: bytes) -> bytes:
    return start + item * ((4_100_000 - len(start)) // len(item)) + end


_LARGE = {
    "labels": b'{"metadata":{'
    + b",".join([b'"%d":"%s"' % (number, b"x" * 20) for number in range(95_000)])
    + b'},"model":"m","messages":[]}',
    "values": _fill(b'{"metadata":{"a":[', b"1,", b'1]},"model":"m","messages":[]}'),
    "objects": b'{"metadata":[' + b'{"a":1},' * 49_000 + b'1],"model":"m","messages":[]}',
    "depth": _fill(b'{"metadata":', b"[", b""),
    "messages": _fill(b'{"model":"m","messages":[', b'{"role":"user","content":"0123456789abcdef"},', b"{}]}"),
    "text": _fill(b'{"model":"m","messages":[{"role":"user","content":"', b"hello ", b'"}]}'),
    "escapes": _fill(b'{"model":"m","messages":[{"role":"user","content":"', b"\\u00e9", b'"}]}'),
}


@pytest.mark.parametrize("kind", _LARGE)
async def test_a_large_body_delays_nobody(kind: str) -> None:
    gaps = []

    async def look() -> None:
        before = trio.current_time()
        while True:
            await trio.sleep(0.001)
            gaps.append(trio.current_time() - before)
            before += gaps[-1]

    async with gateway(FakeService()) as running, trio.open_nursery() as nursery:
        client = await running.connect()
        nursery.start_soon(look)
        response = await client.request("/v1/chat/completions", _LARGE[kind])
        assert response.status in {200, 400, 413}
        nursery.cancel_scope.cancel()
    # About 50 ms at worst where nothing else runs; the bound leaves room for a busy machine.
    assert max(gaps) < 0.5


BODY = msgspec.json.encode({**CHAT, "model": "m"})
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n"
SAID = {
    "whole": POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "asked to close": POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "old": POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    "bad body": POST + b"Content-Length: 1\r\n\r\n{",
    "bad kind": POST + b"Content-Type: text/plain\r\nContent-Length: 1\r\n\r\n{",
    "bad kind, long": POST + b"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000,
    "bad kind, chunked": POST + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad kind, expecting": POST + b"Content-Type: text/plain\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    "nowhere": b"GET /nowhere HTTP/1.1\r\nHost: t\r\n\r\n",
    "site": b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\n",
    "head": b"HEAD /nowhere HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    "no handshake": b"GET /v1/stream HTTP/1.1\r\nHost: t\r\n\r\n",
    "bad handshake": f"GET /v1/stream HTTP/1.1\r\nHost: t\r\n{UPGRADE.replace('13', '8')}\r\n".encode(),
    "other protocol": POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "tunnel": b"CONNECT t:443 HTTP/1.1\r\nHost: t\r\n\r\n",
    "bad framing": POST + b"Content-Length: x\r\n\r\n",
    "too large": POST + b"Content-Length: 99999999\r\n\r\n",
}


@pytest.mark.parametrize("kind", SAID)
async def test_whoever_closes_says_so_and_nobody_else_does(kind: str) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(SAID[kind])
        status, headers = await client.head()
        size = 0 if kind == "head" else int(headers["content-length"])
        while len(client.buffer) < size:
            await client.more()
        client.buffer = client.buffer[size:]
        if "connection" in headers:
            assert headers["connection"] == "close"
            await client.stream.send_eof()
            assert await client.ended() == b""
        else:
            assert (await client.get("/livez")).status == 200, status
