"""Faults of WebSockets, each with a real socket. The table of all traps is in test_http_faults.py."""

import socket
import struct

import msgspec
import pytest
import structlog
import trio
from trio_websocket import ConnectionClosed

from actors.api.response import Delta
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from tests.gateway.fakes import FakeService, answer
from tests.gateway.harness import CHAT, UPGRADE, Gateway, connected, gateway, until
from tests.patience import PATIENCE_S

START = {"type": "start", "id": "a", **CHAT}
HANDSHAKE = f"GET /v1/stream HTTP/1.1\r\nHost: t\r\n{UPGRADE}\r\n".encode()


def frame(opcode: int, payload: bytes) -> bytes:
    """A final client frame, masked with zeros."""
    assert len(payload) < 65536
    if len(payload) < 126:
        return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload
    return bytes([0x80 | opcode, 0x80 | 126]) + len(payload).to_bytes(2, "big") + bytes(4) + payload


async def test_bytes_behind_the_handshake() -> None:
    service = FakeService()
    async with gateway(service) as running:
        for behind in (frame(1, msgspec.json.encode(START)), b"\xff" * 100, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"):
            client = await running.connect()
            await client.send(HANDSHAKE + behind)
            assert (await client.head())[0] == 101
        await service.opened.wait()
        assert (await (await running.connect()).request("/v1/chat/completions", CHAT)).status == 200


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\xff\xff\xff\xff", 1002),
        (b"\x81\x05hello", 1002),  # not masked
        (frame(1, b"\xff\xfe"), 1007),
        (frame(3, b""), 1002),
    ],
)
async def test_bad_frames_close_with_the_right_code(bad: bytes, code: int) -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        await client.send(bad)
        said = await client.ended()
        assert said[0] == 0x88
        assert int.from_bytes(said[2:4], "big") == code


async def test_push_only() -> None:
    """Messages of the client wait unread behind a running push; its close is heard nevertheless."""
    service = FakeService(lambda _: [[Delta(0, "x", (1,))], trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        for index in range(40):
            await client.send(frame(1, msgspec.json.encode({**START, "id": str(index)})))
        await client.send(frame(8, (1000).to_bytes(2, "big")))
        with trio.fail_after(PATIENCE_S):
            said = await client.ended()
            for response in service.responses:
                await response.closed.wait()
        assert said.endswith(b"\x88\x02\x03\xe8")
        assert service.open_responses == 0


async def test_gone_without_a_close_frame() -> None:
    service = FakeService(lambda _: [trio.sleep_forever])
    async with gateway(service) as running:
        client = await running.connect()
        await client.send(HANDSHAKE + frame(1, msgspec.json.encode(START)))
        await service.opened.wait()
        await client.aclose()
        with trio.fail_after(PATIENCE_S):
            await service.responses[0].closed.wait()


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sending", [False, True])
async def test_an_abrupt_end_is_no_failure_of_the_server(reset: bool, sending: bool) -> None:
    service = FakeService(lambda _: answer(*["x" * 60_000] * 1000) if sending else [trio.sleep_forever])
    with structlog.testing.capture_logs() as logs:
        async with gateway(service) as running:
            client = await running.connect(receive_buffer=4096)
            await client.send(HANDSHAKE + frame(1, msgspec.json.encode(START)))
            await service.opened.wait()
            if reset:
                client.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await client.aclose()
            with trio.fail_after(PATIENCE_S):
                await service.responses[0].closed.wait()
                while running.server.connections:  # noqa: ASYNC110  (nothing tells of it)
                    await trio.sleep(0.01)
    assert logs == []


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4000, 4999])
async def test_each_code_that_a_client_may_close_with(code: int) -> None:
    with structlog.testing.capture_logs() as logs:
        async with gateway(FakeService()) as running:
            client = await running.connect()
            await client.send(HANDSHAKE + frame(8, code.to_bytes(2, "big")))
            await client.head()
            assert await client.ended() == b"\x88\x02" + code.to_bytes(2, "big")
    assert logs == []


async def test_never_reading() -> None:
    service = FakeService(lambda _: answer(*["x" * 60_000] * 1000))
    async with gateway(service, write_stall=0.2) as running:
        client = await running.connect(receive_buffer=4096)
        await client.send(HANDSHAKE + frame(1, msgspec.json.encode(START)))
        await service.opened.wait()
        await service.responses[0].closed.wait()


async def test_pings() -> None:
    async with gateway(FakeService(), heartbeat=0.05) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        while len(client.buffer) < 2:
            await client.more()
        assert client.buffer[:2] == b"\x89\x00"
        # Nothing answers the ping, so the peer is taken for dead.
        with trio.fail_after(PATIENCE_S):
            await client.ended()


async def test_who_answers_pings_lives_on() -> None:
    """Pinged by hand: the peer has as long as it needs to answer."""
    async with gateway(FakeService()) as running, connected(running) as polite:
        (task,) = running.server._connections.values()
        await polite.send(START)
        assert (await polite.until("done"))[-1]["id"] == "a"
        for _ in range(5):
            heard_at = task.connection.ticking._socket._heard_at
            task.connection.ticking.tick(trio.current_time(), 0)
            await until(lambda before=heard_at: task.connection.ticking._socket._heard_at > before)
        await polite.send({**START, "id": "b"})
        assert (await polite.until("done"))[-1]["id"] == "b"


async def test_one_who_reads_slowly_is_not_taken_for_dead() -> None:
    """Its pong can only come when it has read what lies before the ping."""
    service = FakeService(lambda _: answer(*["x" * 60_000] * 30))
    async with gateway(service, heartbeat=0.1) as running:
        client = await running.connect(receive_buffer=4096)
        await client.send(HANDSHAKE + frame(1, msgspec.json.encode(START)))
        await service.opened.wait()
        read = 0
        started = trio.current_time()
        while trio.current_time() - started < 0.8:
            read += len(await client.stream.receive_some(8192))
            await trio.sleep(0.01)
        while read < 1_800_000:
            data = await client.stream.receive_some(65536)
            assert data
            read += len(data)


@pytest.mark.parametrize(
    ("headers", "status", "names"),
    [
        ("", 426, {"upgrade": "websocket"}),
        (UPGRADE.replace("13", "8"), 426, {"upgrade": "websocket", "sec-websocket-version": "13"}),
        (UPGRADE.replace("AAAA", ""), 400, {}),
        (UPGRADE.replace("AAAA", "A?A?"), 400, {}),
    ],
)
async def test_bad_handshakes(headers: str, status: int, names: dict[str, str]) -> None:
    async with gateway(FakeService()) as running:
        response = await (await running.connect()).get("/v1/stream", headers=headers)
        assert response.status == status
        assert names.items() <= response.headers.items()


async def test_a_ping_is_answered() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        await client.send(HANDSHAKE + frame(9, b"hi"))
        await client.head()
        while len(client.buffer) < 4:
            await client.more()
        assert client.buffer == b"\x8a\x02hi"


async def test_crash_closes_with_1011() -> None:
    # What no request can cause: a service that the edge was given wrongly.
    api = ApiContext(service=FakeService(), max_choices="broken", max_inputs=1)  # type: ignore[arg-type]
    server = Server(listen("127.0.0.1", 0), ServerLimits(), Routes(api, ServerLimits(), frozenset()))
    running = Gateway(server, server.port)
    with structlog.testing.capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with connected(running) as socket:
                await socket.send(START)
                with pytest.raises(ConnectionClosed):
                    await socket.get()
                assert socket.raw.closed.code == 1011
            running.close_clients()
            await server.finish(0)
    assert [(each["event"], each.get("status")) for each in logs] == [
        ("request_finished", 500),
        ("socket_failed", None),
    ]


async def test_empty_binary_frame() -> None:
    async with gateway(FakeService()) as running, connected(running) as socket:
        await socket.raw.send_message(b"")
        assert (await socket.get())["error"]["code"] == "binary_message"
        await socket.raw.send_message("")
        assert (await socket.get())["error"]["code"] == "malformed_json"
        await socket.send(START)
        assert (await socket.until("done"))[-1]["id"] == "a"


@pytest.mark.parametrize("texts", ["ascii", "wide", "binary"])
async def test_the_bound_of_a_message_is_of_each_message(texts: str) -> None:
    """Many that fit are all read, whole or in fragments; one that is a byte too long closes the socket."""
    unit = {"ascii": b"x", "wide": "€".encode(), "binary": b"\xff"}[texts]
    opcode = 2 if texts == "binary" else 1
    fits = unit * (3000 // len(unit))
    pieces = [fits[at : at + 999] for at in range(0, 3000, 999)]
    fragmented = b"".join(
        [fragment(opcode if number == 0 else 0, piece, last=number == 3) for number, piece in enumerate(pieces)]
    )
    async with gateway(FakeService(), limits={"max_body_bytes": 3000}) as running:
        client = await running.connect()
        await client.send(HANDSHAKE)
        await client.head()
        for _ in range(4):
            for message in (frame(opcode, fits), fragmented):
                client.buffer = b""
                await client.send(message + frame(9, b"next"))
                while not client.buffer.endswith(b"next"):
                    await client.more()
                assert b'"error"' in client.buffer
                assert running.server.statistics().body_bytes == 0
        first = [fragment(opcode if number == 0 else 0, piece, last=False) for number, piece in enumerate(pieces)]
        await client.send(b"".join(first) + fragment(0, unit, last=True))
        assert (await client.ended()).endswith(b"\x88\x02" + (1009).to_bytes(2, "big"))


def fragment(opcode: int, payload: bytes, *, last: bool) -> bytes:
    whole = frame(opcode, payload)
    return bytes([whole[0] if last else whole[0] & 0x7F]) + whole[1:]
