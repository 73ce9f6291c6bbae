"""A server whose only endpoint sends each text message back, on the product's own HTTP server and WebSocket."""

from typing import Any

import msgspec
import trio

from gateway.errors import ClientGone
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.gate import Route
from gateway.http.request import Request
from gateway.http.server import Server, listen
from gateway.http.websocket import PeerClosed, WebSocket, accept

LIMITS = msgspec.structs.replace(ServerLimits(), max_body_bytes=1 << 25, messages_per_s=1_000_000)
"""The suite's messages have up to 16 MiB, and it sends as fast as it can."""


async def echo(connection: Connection, request: Request) -> None:
    """Until the peer closes."""
    socket = WebSocket(connection, await accept(connection, request, frozenset()), LIMITS)
    connection.tick_for(_Silent())
    connection.watch()
    code, gone = 1000, False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.run_sends)
            try:
                while True:
                    text = await socket.receive()
                    if text is not None:
                        await socket.send(text.encode())
            except PeerClosed as closed:
                code = closed.code
            nursery.cancel_scope.cancel()
    except* ClientGone:
        gone = True
    if gone:
        raise ClientGone
    await socket.close(code, "")


class _Silent:
    """No heartbeats: the suite counts what comes."""

    def tick(self, now: float, heartbeat_s: float) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


def server() -> Server:
    """Not running yet."""
    return Server(listen("127.0.0.1", 0), LIMITS, _route)


def _route(request: Request) -> Any:
    return Route(echo, works=True)
