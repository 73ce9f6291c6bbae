"""A gateway on a real socket inside the test's own event loop, and clients that say exactly what the test wants."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
import trio.lowlevel
from trio_websocket import WebSocketConnection, wrap_client_stream

from config.model.settings import ServerSettings
from config.model.table import Seconds
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from tests.gateway.fakes import FakeService
from tests.patience import PATIENCE_S

_UNSET: dict[str, Any] = dict.fromkeys(
    ("header_timeout", "body_timeout", "keep_alive", "heartbeat", "write_stall"), 10 * PATIENCE_S
)
"""What a test does not set never ends by itself while it waits: so only what it looks for ends its waiting."""


class Gateway:
    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self._clients: list[Client] = []

    async def connect(self, *, receive_buffer: int | None = None) -> "Client":
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        client = Client(trio.SocketStream(sock))
        self._clients.append(client)
        return client

    async def heard(self, data: bytes) -> "Client":
        """One that sent this as its first bytes, and was answered.

        It tries again as long as a deadline shorter than a busy machine's pauses passes before anything was read.
        """
        while True:
            client = await self.connect()
            with contextlib.suppress(EOFError, trio.BrokenResourceError):
                await client.send(data)
                await client.more()
                return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.stream.socket.close()


@asynccontextmanager
async def gateway(
    service: FakeService,
    *,
    limits: dict[str, Any] | None = None,
    within_s: float = PATIENCE_S,
    extra_names: Collection[str] = (),
    **server: Any,
) -> AsyncIterator[Gateway]:
    """`server` goes into `ServerSettings`, `limits` over what comes of it. `within_s`: for all of it.

    `extra_names`: of requests, which some upstream knows.
    """
    settings = ServerSettings(
        **{name: Seconds(value) if isinstance(value, float) else value for name, value in (_UNSET | server).items()}
    )
    bounds = msgspec.structs.replace(ServerLimits.of(settings), **limits or {})
    api = ApiContext(
        service=service,
        max_choices=settings.max_choices,
        max_inputs=settings.max_inputs,
        shows_served=settings.answer_model == "served",
        extra_names=frozenset(extra_names),
    )
    routes = Routes(api, bounds, frozenset(settings.ws_origins))
    running = Server(listen("127.0.0.1", 0), bounds, routes, api.refused, api.error_format)
    routes.connections = lambda: running.connections
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            await nursery.start(running.run)
            if isinstance(service, FakeService):
                nursery.start_soon(service.kept.run)
                nursery.start_soon(service.stored.run)
                await trio.lowlevel.checkpoint()
            reached = Gateway(running, running.port)
            try:
                yield reached
            finally:
                reached.close_clients()
            await running.finish(0)
            nursery.cancel_scope.cancel()


class Response:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


class Client:
    """Raw HTTP/1.1 on one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def post(self, path: str, body: object, *, headers: str = "") -> None:
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        await self.send(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)

    async def get(self, path: str, *, headers: str = "") -> Response:
        await self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        return await self.response()

    async def request(self, path: str, body: object, *, headers: str = "") -> Response:
        await self.post(path, body, headers=headers)
        return await self.response()

    async def response(self) -> Response:
        status, headers = await self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        else:
            size = int(headers.get("content-length", 0))
            while len(self.buffer) < size:
                await self.more()
            body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Response(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return int(first.split(" ")[1]), {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }

    async def chunk(self) -> bytes:
        """b"" is the last one."""
        while b"\r\n" not in self.buffer:
            await self.more()
        size, _, self.buffer = self.buffer.partition(b"\r\n")
        length = int(size, 16)
        while len(self.buffer) < length + 2:
            await self.more()
        data, self.buffer = self.buffer[:length], self.buffer[length + 2 :]
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk

    async def more(self) -> None:
        data = await self.stream.receive_some(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    async def ended(self) -> bytes:
        """Wait until the server closes; what it sent until then."""
        try:
            while True:
                await self.more()
        except (EOFError, trio.BrokenResourceError):
            return self.buffer

    async def aclose(self) -> None:
        await self.stream.aclose()


async def until(condition: Callable[[], bool]) -> None:
    """For what happens in the server, of which no client hears."""
    while not condition():  # noqa: ASYNC110  (nothing tells of it)
        await trio.sleep(0.001)


def events(body: bytes) -> list[Any]:
    """The decoded data of server-sent events; `[DONE]` as a string, comments left out."""
    found = []
    for block in body.decode().split("\n\n"):
        if block.startswith("data: "):
            data = block.removeprefix("data: ")
            found.append(data if data == "[DONE]" else msgspec.json.decode(data))
    return found


UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Socket:
    """JSON messages over a real WebSocket client."""

    def __init__(self, raw: WebSocketConnection) -> None:
        self.raw = raw

    async def send(self, message: object) -> None:
        await self.raw.send_message(msgspec.json.encode(message).decode())

    async def get(self) -> Any:
        return msgspec.json.decode(await self.raw.get_message())

    async def until(self, kind: str) -> list[Any]:
        found = []
        while True:
            found.append(await self.get())
            if found[-1]["type"] == kind:
                return found


@asynccontextmanager
async def connected(
    running: Gateway, headers: Sequence[tuple[bytes, bytes]] = (), path: str = "/v1/stream"
) -> AsyncIterator[Socket]:
    client = await running.connect()
    async with trio.open_nursery() as nursery:
        raw = await wrap_client_stream(nursery, client.stream, "localhost", path, extra_headers=list(headers))
        yield Socket(raw)
        with trio.move_on_after(1):
            await raw.aclose()
        nursery.cancel_scope.cancel()


CHAT = {"model": "penstock", "messages": [{"role": "user", "content": "Hello?"}]}
STREAM = {**CHAT, "stream": True}
