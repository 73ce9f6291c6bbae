"""Penstock's HTTP server and upstream client, joined: python -m benchmarks.upstream.gateways.http_proxy PORT UPSTREAM.

A gateway without a gateway: it reads a request, sends its body on, and passes the answer's bytes back. It checks no
key, parses no JSON, and has no actor. What Penstock costs beside this is what it does for the request.
"""

import ssl
import sys
from functools import partial

import trio

from actors.kernel.clock import loop_clock
from actors.upstream.http.address import address
from actors.upstream.http.pool import Call, ConnectionPool
from actors.upstream.http.read_watcher import ReadWatcher
from actors.upstream.http.stream import connect
from gateway.app import spare_the_collector
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.gate import Route
from gateway.http.request import Request
from gateway.http.response_head import JSON_TYPE
from gateway.http.server import Server, listen

_CONNECTIONS = 8192
_HEADERS = b"content-type: application/json\r\nauthorization: Bearer %b\r\n"


async def serve(port: int, upstream_port: int, key: str) -> None:
    watcher = ReadWatcher()
    opens = partial(connect, context=ssl.create_default_context(), watcher=watcher)
    pool = ConnectionPool(opens, keep=_CONNECTIONS, idle_s=4.0, connect_s=5.0, clock=loop_clock())
    url, lines = f"http://127.0.0.1:{upstream_port}/v1", _HEADERS % key.encode()

    async def answer(connection: Connection, request: Request) -> None:
        async with Call(pool, address(url, "/chat/completions"), lines, bytes(request.body)) as call:
            connection.drop_body(request)
            response = call.response
            if "event-stream" not in (response.header(b"content-type") or ""):
                body = b""
                while data := await call.read():
                    body += data
                await connection.respond(response.status, JSON_TYPE, body)
                return
            stream = connection.event_stream(request, b"")
            await stream.send(await call.read(), trio.current_time())

            def take(data: bytes) -> bool:
                return stream.is_ready() and stream.send_now(data, trio.current_time())

            while not response.complete:
                await call.read_each(take)
                await stream.flush()
            await stream.send(b"", trio.current_time(), last=True)

    route = Route(answer, body=True)
    limits = ServerLimits(max_connections=_CONNECTIONS, messages_per_s=1_000_000, max_body_bytes=1 << 23)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watcher.run)
        await nursery.start(Server(listen("127.0.0.1", port), limits, lambda _: route).run)
        spare_the_collector()


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
