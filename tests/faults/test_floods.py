"""What one peer can make the server hold or do, each with a real socket.

| what a peer does | bound | test |
| --- | --- | --- |
| uploads without a key, or with a wrong one | nothing is kept | no_byte_of_a_body_without_a_key |
| uploads with a good key | bytes for each key and for all | bodies_of_a_key_are_bounded, bodies_of_all_are_bounded |
| leaves in the middle of an upload | the memory is free at once | what_a_peer_sent_is_freed |
| is silent in the middle of an upload, or trickles | seconds | a_body_has_a_deadline |
| WebSocket frames that cost nothing to send | messages a second, a turn for others | a_flood_of_frames |
| tiny requests, chunks, packets | messages a second, a turn for others | a_flood_of_http |
| tiny chunks, long extensions, many trailers | bytes on the wire | chunks_that_are_mostly_overhead |
| silent connections | the oldest gives way | silent_connections_give_way |
| working connections of one key | places for each key | a_key_has_so_many_connections |
| working connections of everybody | places for probes | probes_are_answered_when_all_places_work |
"""

import gc
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
import trio

from actors.api.errors import BadKey
from tests.faults.test_websocket_faults import HANDSHAKE, START, frame
from tests.gateway.fakes import FakeService, Step, answer
from tests.gateway.harness import CHAT, STREAM, Client, Gateway, gateway, until

KEY = "Authorization: Bearer good\r\n"


def locked(script: Callable[..., list[Step]] | None = None) -> FakeService:
    """A service with keys: "good" and "other"."""

    def check(key: str | None) -> None:
        if key not in {"good", "other"}:
            raise BadKey(missing=key is None)

    return FakeService(script, check_key=check, check_scraper=check)


def handshake() -> bytes:
    return HANDSHAKE.replace(b"\r\n", f"\r\n{KEY}".encode(), 1)


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


@pytest.mark.parametrize("key", ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic Z29vZA==\r\n"])
@pytest.mark.parametrize(
    ("line", "closes"),
    [
        ("Content-Length: 4194304", True),
        ("Content-Length: 9999999", True),
        ("Transfer-Encoding: chunked", True),
        ("Content-Length: 1000\r\nExpect: 100-continue", True),
        ("Content-Length: 1000", False),
        ("Content-Length: 0", False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])
async def test_no_byte_of_a_body_without_a_key(path: str, line: str, closes: bool, key: str) -> None:
    """The answer comes although nothing of the body was sent."""
    async with gateway(locked()) as running:
        client = await running.connect()
        await client.send(head(path, line, *key.split("\r\n")[:-1]))
        response = await client.response()
        assert (response.status, response.error["code"]) == (401, "invalid_api_key")
        assert response.headers["x-request-id"]
        if closes:
            assert response.headers["connection"] == "close"
            return
        assert "connection" not in response.headers
        size = int(line.partition(": ")[2])
        await client.send(b"{" * size)
        assert (await client.request("/v1/chat/completions", CHAT, headers=KEY)).status == 200


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("/nowhere", "Content-Length: 1000000"), 404),
        (head("/v1/models", "Content-Length: 1000000"), 405),
        (head("/v1/stream", "Content-Length: 1000000"), 405),
        (head("/v1/completions", "Content-Length: 1000000").replace(b"POST", b"PUT"), 405),
        (head("/v1/completions", KEY.strip(), "Content-Length: 9999999"), 413),
        (head("/v1/completions", KEY.strip(), "Content-Length: 1000000", "Content-Type: text/plain"), 415),
        (head("/v1/completions", KEY.strip(), "Content-Length: 1000000", "Content-Encoding: gzip"), 415),
        (head("/metrics", "Content-Length: 1000000").replace(b"POST", b"GET"), 401),
        (head("/v1/models", "Content-Length: 1000000").replace(b"POST", b"GET"), 401),
    ],
)
async def test_what_the_head_decides_is_said_before_the_body(request_head: bytes, status: int) -> None:
    async with gateway(locked()) as running:
        client = await running.connect()
        await client.send(request_head)
        assert (await client.response()).status == status


async def test_without_keys_strangers_are_refused_before_their_body() -> None:
    async with gateway(FakeService(keyless=True)) as running:
        for line in ("Host: evil.test", "Host: localhost\r\nOrigin: http://evil.test"):
            client = await running.connect()
            await client.send(f"POST /v1/completions HTTP/1.1\r\n{line}\r\nContent-Length: 1000000\r\n\r\n".encode())
            assert (await client.response()).status == 403


async def test_100_continue_is_for_those_whose_body_is_wanted() -> None:
    async with gateway(locked()) as running:
        client = await running.connect()
        body = msgspec.json.encode(CHAT)
        lines = (KEY.strip(), f"Content-Length: {len(body)}", "Expect: 100-continue")
        await client.send(head("/v1/chat/completions", *lines))
        assert (await client.head())[0] == 100
        await client.send(body)
        assert (await client.response()).status == 200


async def upload(running: Gateway, size: int, *, key: str = "good") -> Client:
    """A request of which one byte is missing."""
    client = await running.connect()
    line = f"Authorization: Bearer {key}"
    await client.send(head("/v1/completions", line, f"Content-Length: {size + 1}"))
    await client.send(b" " * size)
    return client


@pytest.mark.parametrize(
    ("bounds", "keys", "status", "code"),
    [
        ({"body_memory_per_key_bytes": 250_000}, ["good"] * 3, 429, "too_many_body_bytes"),
        ({"body_memory_bytes": 250_000}, ["good", "other", "good"], 503, "body_memory_full"),
    ],
)
async def test_bodies_are_bounded(bounds: dict[str, int], keys: list[str], status: int, code: str) -> None:
    async with gateway(locked(), limits=bounds) as running:
        held = [await upload(running, 100_000, key=key) for key in keys[:2]]
        await until(lambda: running.server.statistics().body_bytes == 200_000)
        response = await (await upload(running, 100_000, key=keys[2])).response()
        assert (response.status, response.error["code"]) == (status, code)
        assert response.headers["connection"] == "close"
        assert response.headers["retry-after"] == "1"
        # What one gives back another may use.
        await held[0].send(b" ")
        assert (await held[0].response()).status == 400
        await held[1].aclose()
        await until(lambda: not running.server.statistics().body_bytes)
        last = await upload(running, 100_000, key=keys[2])
        await last.send(b" ")
        assert (await last.response()).error["code"] == "malformed_json"


@pytest.mark.parametrize("kind", ["body", "chunked", "socket"])
async def test_what_a_peer_sent_is_freed(kind: str) -> None:
    """At once when it leaves, without the garbage collector, which comes late or never to what is old."""
    size = 1_000_000
    async with gateway(FakeService()) as running:
        await leave(running, kind, 1000)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(10):
                await leave(running, kind, size)
            # Python may keep what was sent last: the frame of whoever sent it.
            assert tracemalloc.get_traced_memory()[0] - before < 3 * size
        finally:
            tracemalloc.stop()
            gc.enable()


async def leave(running: Gateway, kind: str, size: int) -> None:
    client = await running.connect()
    text = b" " * size
    match kind:
        case "body":
            await client.send(head("/v1/completions", f"Content-Length: {size + 1}") + text)
        case "chunked":
            await client.send(head("/v1/completions", "Transfer-Encoding: chunked") + b"%x\r\n" % (size + 1) + text)
        case _:
            await client.send(HANDSHAKE)
            await client.head()
            await client.send(bytes([0x01, 0xFF]) + size.to_bytes(8, "big") + bytes(4) + text)
    await client.aclose()
    await until(lambda: not running.server.connections)


@pytest.mark.parametrize("sent", [1, 400_000])
async def test_a_body_has_a_deadline(sent: int) -> None:
    """However much came at once: it buys no right to be silent."""
    async with gateway(locked(), header_timeout=0.1) as running:
        client = await running.heard(head("/v1/completions", KEY.strip(), "Content-Length: 1000000") + b" " * sent)
        response = await client.response()
        assert (response.status, response.error["code"]) == (408, "request_timeout")
        assert response.headers["connection"] == "close"


@pytest.mark.parametrize("kind", ["sized", "chunked", "socket"])
async def test_a_body_that_never_stops_has_a_deadline(kind: str) -> None:
    async with gateway(locked(), body_timeout=0.3, header_timeout=0.2) as running:
        client = await running.connect()
        match kind:
            case "sized":
                await client.send(head("/v1/completions", KEY.strip(), "Content-Length: 4000000"))
                part = b" " * 2000
            case "chunked":
                await client.send(head("/v1/completions", KEY.strip(), "Transfer-Encoding: chunked"))
                part = b"7d0\r\n" + b" " * 2000 + b"\r\n"
            case _:
                client = await running.heard(
                    HANDSHAKE.replace(b"\r\n", f"\r\n{KEY}".encode(), 1) + bytes([0x01, 0x80, 0, 0, 0, 0])
                )
                assert (await client.head())[0] == 101
                part = bytes([0x00, 0x81, 0, 0, 0, 0]) + b"x"
        with pytest.raises(trio.BrokenResourceError):
            await _send_always(client, part)


async def _send_always(client: Client, part: bytes) -> None:
    while True:
        await client.send(part)
        await trio.sleep(0.01)


async def test_a_body_that_was_refused_is_answered_once() -> None:
    """Its sender is silent until the deadline: a second answer would be taken for that of another request."""
    async with gateway(locked(), header_timeout=0.1) as running:
        client = await running.heard(head("/v1/completions", "Content-Length: 1000"))
        assert (await client.response()).status == 401
        assert await client.ended() == b""


EMPTY = bytes([0x00, 0x80, 0, 0, 0, 0])
FRAMES = {
    "continuations": bytes([0x01, 0x81, 0, 0, 0, 0]) + b"x" + EMPTY * 10_000,
    "pings": frame(9, b"") * 10_000,
    "pongs": frame(10, b"") * 10_000,
    "fragments": bytes([0x01, 0x81, 0, 0, 0, 0]) + b"x" + bytes([0x00, 0x81, 0, 0, 0, 0, 0x78]) * 8_000,
    "binary": bytes([0x02, 0x80, 0, 0, 0, 0]) + EMPTY * 10_000,
    "messages": frame(1, b"x") * 2_000,
    "cancels": frame(1, b'{"type":"cancel","id":"x"}') * 2_000,
}
HTTP = {
    "requests": b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n" * 2_000,
    "refused": head("/v1/completions", "Content-Length: 0") * 1_000,
    "chunks": head("/v1/completions", KEY.strip(), "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 5_000,
    "headers": b"GET /x HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 90 + b"\r\n",
}


async def turns(client: Client, data: bytes, end: Callable[[Client], bool]) -> int:
    """How often everybody else had a turn while a server handled `data`, all of which lies ready for it."""
    count = 0

    async def others() -> None:
        nonlocal count
        while True:
            await trio.lowlevel.checkpoint()
            count += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await client.send(data)
        while not end(client):
            await client.more()
        nursery.cancel_scope.cancel()
    return count


@pytest.mark.parametrize("kind", FRAMES)
async def test_a_flood_of_frames_leaves_others_their_turns(kind: str) -> None:
    flood = FRAMES[kind]
    async with gateway(FakeService(), limits={"messages_per_s": 1_000_000}) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        count = await turns(
            client, flood + frame(8, b"\x03\xe8"), lambda each: each.buffer.endswith(b"\x88\x02\x03\xe8")
        )
        # Of the smallest frames one has six bytes.
        assert count > flood.count(b"\x00\x00\x00\x00") / 32


@pytest.mark.parametrize("kind", ["continuations", "pings", "messages"])
async def test_a_flood_of_frames_is_slowed_down(kind: str) -> None:
    """Nothing is lost: it waits."""
    async with gateway(FakeService(), messages_per_second=50) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        began = trio.current_time()
        flood = {
            "continuations": bytes([0x01, 0x80, 0, 0, 0, 0]) + EMPTY * 99 + bytes([0x80, 0x80, 0, 0, 0, 0]),
            "pings": frame(9, b"") * 100,
            "messages": frame(1, b"x") * 100,
        }[kind]
        await client.send(flood)
        await client.send(frame(1, b'{"type":"cancel"}') + frame(8, b"\x03\xe8"))
        await client.ended()
        # A second's worth of tokens is there at the start.
        assert trio.current_time() - began > 0.9


async def test_a_usual_client_is_not_slowed_down() -> None:
    async with gateway(FakeService(), messages_per_second=1000) as running:
        client = await running.connect()
        for _ in range(100):
            assert (await client.request("/v1/chat/completions", CHAT)).status == 200
        assert running.server.statistics().body_bytes == 0
        # It stays connected, and is no obstacle to others.
        await until(lambda: running.server.statistics().working == 0)
        assert running.server.connections == 1


@pytest.mark.parametrize("kind", HTTP)
async def test_a_flood_of_http_leaves_others_their_turns(kind: str) -> None:
    flood = HTTP[kind]
    async with gateway(locked(), limits={"messages_per_s": 1_000_000}) as running:
        client = await running.connect()
        last = b"GET /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        if kind == "chunks":
            last = b"0\r\n\r\n" + last
        count = await turns(client, flood + last, lambda each: b'{"status":"ok"}' in each.buffer)
        assert count > len(flood) / 8192


async def test_requests_are_slowed_down() -> None:
    async with gateway(FakeService(), messages_per_second=50) as running:
        client = await running.connect()
        began = trio.current_time()
        await client.send(b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n" * 99)
        await client.send(b"GET /x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        assert (await client.ended()).count(b"HTTP/1.1 404 ") == 100
        assert trio.current_time() - began > 0.9


@pytest.mark.parametrize(
    "flood",
    [
        b"1\r\n \r\n" * 60_000,
        b"1;" + b"x" * 200_000,
        b"1;" + b"x" * 70_000 + b"\r\n \r\n1;" + b"x" * 70_000,
        b"1\r\n \r\n0\r\n" + b"a: b\r\n" * 40_000,
    ],
)
async def test_chunks_that_are_mostly_overhead(flood: bytes) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_all, client, head("/v1/completions", "Transfer-Encoding: chunked") + flood)
            response = await client.response()
            assert (response.status, response.error["code"]) == (413, "body_too_large")
            nursery.cancel_scope.cancel()


async def _send_all(client: Client, data: bytes) -> None:
    try:
        await client.send(data)
    except trio.BrokenResourceError:
        return


async def endless(running: Gateway, key: str = "good") -> Client:
    """A connection that works."""
    client = await running.connect()
    await client.post("/v1/chat/completions", STREAM, headers=f"Authorization: Bearer {key}\r\n")
    assert (await client.head())[0] == 200
    return client


def streaming() -> FakeService:
    return locked(lambda _: [answer("x")[0], answer("x")[1], trio.sleep_forever])


async def test_silent_connections_give_way() -> None:
    async with gateway(locked(), max_connections=4, probe_connections=2) as running:
        kept = await running.connect()
        assert (await kept.request("/v1/chat/completions", CHAT, headers=KEY)).status == 200
        silent = [await running.connect() for _ in range(20)]
        await silent[-1].send(b"GET /livez HT")
        newcomer = await running.connect()
        assert (await newcomer.request("/v1/chat/completions", CHAT, headers=KEY)).status == 200
        assert (await newcomer.get("/livez")).status == 200
        assert running.server.connections <= 6
        assert await silent[0].ended() == b""


async def test_probes_are_answered_when_all_places_work() -> None:
    async with gateway(streaming(), max_connections=2) as running:
        busy = [await endless(running) for _ in range(2)]
        for path in ("/livez", "/readyz", "/health", "/ping", "/version"):
            assert (await (await running.connect()).get(path)).status == 200
        client = await running.connect()
        refused = await client.request("/v1/chat/completions", CHAT, headers=KEY)
        assert (refused.status, refused.error["code"]) == (503, "too_many_connections")
        assert refused.headers["connection"] == "close"
        assert refused.headers["retry-after"] == "1"
        # Newcomers that are silent do not end a probe which has just come.
        probe = await running.connect()
        assert (await probe.get("/livez")).status == 200
        silent = [await running.connect() for _ in range(15)]
        assert (await probe.get("/livez")).status == 200
        assert silent
        # None of those that work was closed for it, and the place of one that ends is free.
        await busy[0].aclose()
        await until(lambda: running.server.statistics().working == 1)
        await endless(running)


async def test_a_key_has_so_many_connections() -> None:
    async with gateway(streaming(), connections_per_key=2) as running:
        first, _ = [await endless(running) for _ in range(2)]
        client = await running.connect()
        refused = await client.request("/v1/chat/completions", CHAT, headers=KEY)
        assert (refused.status, refused.error["code"]) == (429, "too_many_connections")
        await endless(running, "other")
        await first.aclose()
        await until(lambda: running.server.statistics().working == 2)
        await endless(running)


async def test_a_tier_leaves_places_to_those_above_it() -> None:
    service = streaming()
    ranks = {"good": 0, "other": 1}
    service.tiers_above = lambda key, *_: ranks[key]  # type: ignore[method-assign, assignment, index]
    async with gateway(service, max_connections=4, tier_connections=1) as running:
        for _ in range(3):
            await endless(running, "other")
        client = await running.connect()
        refused = await client.request("/v1/chat/completions", CHAT, headers=KEY.replace("good", "other"))
        assert (refused.status, refused.error["code"]) == (503, "too_many_connections")
        await endless(running, "good")


async def test_a_socket_is_a_place_of_its_key() -> None:
    async with gateway(locked(), connections_per_key=1) as running:
        first = await running.connect()
        await first.send(handshake())
        assert (await first.head())[0] == 101
        second = await running.connect()
        await second.send(handshake())
        assert (await second.response()).status == 429
        await first.send(frame(1, msgspec.json.encode(START)))
        while b'"done"' not in first.buffer:
            await first.more()
