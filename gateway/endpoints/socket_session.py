"""A WebSocket with many requests at once: handshake, receive loop and end, whatever its messages are."""

import http
from abc import ABC, abstractmethod
from collections.abc import Callable

import structlog
import trio
from wsproto.frame_protocol import CloseReason

from actors.api.errors import Refusal
from actors.api.request import Credentials
from gateway.endpoints.api_context import ApiContext, credentials_of
from gateway.errors import ClientGone, HttpError
from gateway.http.bounds.limits import ServerLimits
from gateway.http.connection import Connection
from gateway.http.request import Request
from gateway.http.websocket import UPGRADE, PeerClosed, WebSocket, accept

log = structlog.get_logger()


class SocketHandler:
    """Handles the handshakes of one address."""

    def __init__(
        self,
        api: ApiContext,
        limits: ServerLimits,
        origins: frozenset[str],
        session: "Callable[[ApiContext, Credentials, WebSocket, int], SocketSession]",
    ) -> None:
        self._api = api
        self._limits = limits
        self._origins = origins
        self._session = session

    async def __call__(self, connection: Connection, request: Request) -> None:
        try:
            credentials = credentials_of(request)
            trailing = await accept(connection, request, self._origins)
        except Refusal as refusal:
            lines = self._api.refused(refusal.body, request)
            if refusal.body.status == http.HTTPStatus.UPGRADE_REQUIRED:
                lines += UPGRADE
            await connection.respond_error(refusal.body, lines)
            return
        socket = WebSocket(connection, trailing, self._limits)
        session = self._session(self._api, credentials, socket, self._limits.max_streams)
        connection.tick_for(session)
        connection.watch()
        await session.run()


class SocketSession(ABC):
    """The requests of one WebSocket. Its receive loop never waits for a request, so that it always sees a close."""

    def __init__(self, api: ApiContext, credentials: Credentials, socket: WebSocket, max_streams: int) -> None:
        self._api = api
        self._credentials = credentials
        self._socket = socket
        self._max_streams = max_streams
        self._receiving = trio.CancelScope()
        self._finishing = False

    async def run(self) -> None:
        code, reason = int(CloseReason.GOING_AWAY), "the server shuts down"
        gone = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._socket.run_sends)
                try:
                    with self._receiving:
                        while True:
                            await self._take(await self._socket.receive(), nursery)
                except PeerClosed as closed:
                    code, reason = closed.code, ""
                nursery.cancel_scope.cancel()
        except* ClientGone:
            # Raised here it would be wrapped in an exception group.
            gone = True
        except* Exception:
            log.exception("socket_failed")
            code, reason = CloseReason.INTERNAL_ERROR, "the server failed"
        if gone:
            raise ClientGone
        await self._socket.close(code, reason)

    def tick(self, now: float, heartbeat_s: float) -> None:
        self._socket.tick(now, heartbeat_s)

    def finish(self) -> None:
        self._finishing = True
        self._end_if_finished()

    @abstractmethod
    async def _take(self, text: str | None, nursery: trio.Nursery) -> None:
        """Handle one message; None: a binary one. An error in it is answered, and other requests continue."""

    @abstractmethod
    def _is_idle(self) -> bool:
        """No request runs."""

    def _end_if_finished(self) -> None:
        if self._finishing and self._is_idle():
            self._receiving.cancel()

    def _check_room(self, requests: int) -> None:
        """Raises HttpError if no other request may begin beside so many."""
        if self._finishing:
            raise HttpError(
                503,
                "shutting_down",
                "The server ends this connection with its last answer; open another one.",
                kind="server_error",
                should_retry=True,
            )
        if requests >= self._max_streams:
            raise HttpError(
                429,
                "too_many_streams",
                f"At most {self._max_streams} requests may run on one connection. Wait for one to end.",
                kind="rate_limit_error",
                should_retry=True,
            )
