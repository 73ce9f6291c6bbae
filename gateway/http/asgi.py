"""Serves routes that are not time-critical by an ASGI app: one complete request, one complete response.

hypercorn's `HTTPStream` implements ASGI. The response is collected and sent when the app's tasks have ended, so nothing
that the app or its framework cancels can affect the connection.
"""

import logging
from collections.abc import Callable
from typing import Any

from hypercorn.config import Config
from hypercorn.protocol import events
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app

from gateway.http.connection import Connection
from gateway.http.request import Request

STATE = "request"
"""Key of the `Request` in the state of the ASGI scope."""
_STREAM_ID = 1
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"date", b"server"})


class AsgiRoute:
    """A handler that lets an ASGI app answer. Without ASGI's lifespan events: the service manages that."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._config = Config()
        self._config.accesslog = self._config.errorlog = logging.getLogger("penstock.asgi")
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)

    async def __call__(self, connection: Connection, request: Request) -> None:
        response = _Response()
        address = connection.socket.getsockname()[:2]
        async with TaskGroup() as tasks:
            stream = HTTPStream(
                self._app, self._config, self._context, tasks, False, None, address, response.take, _STREAM_ID
            )
            response.stream = stream
            target = b"%b?%b" % (request.path, request.query) if request.query else request.path
            await stream.handle(
                events.Request(
                    stream_id=_STREAM_ID,
                    headers=request.headers,
                    http_version=request.version,
                    # The app answers HEAD as GET, for the right content-length; the connection omits the body.
                    method="GET" if request.method == b"HEAD" else request.method.decode("ascii"),
                    raw_path=target,
                    state=ConnectionState({STATE: request}),
                )
            )
            if request.body:
                await stream.handle(events.Body(stream_id=_STREAM_ID, data=bytes(request.body)))
            await stream.handle(events.EndBody(stream_id=_STREAM_ID))
        lines = [b"%b: %b\r\n" % (name, value) for name, value in response.headers if name.lower() not in _FRAMING]
        await connection.respond(response.status, b"".join(lines), b"".join(response.body))


class _Response:
    """Collects what the app sends."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.stream: HTTPStream

    async def take(self, event: events.Event) -> None:
        match event:
            case events.Response():
                self.status = event.status_code
                self.headers = event.headers
            case events.Body():
                self.body.append(event.data)
            case events.StreamClosed():
                await self.stream.handle(event)
