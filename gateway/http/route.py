"""Where a request goes: decided when its head is whole, before anything of its body is kept."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from actors.api.errors import ErrorBody

if TYPE_CHECKING:
    from gateway.http.connection import Connection
    from gateway.http.request import Request

Handler = Callable[["Connection", "Request"], Awaitable[None]]
"""Answers one request with `respond`, `event_stream` or `begin_upgrade`; raises `Refusal` for what it refuses."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """What a router makes of a head. It never raises: who is refused has a handler that says so."""

    handler: Handler
    body: bool = False
    """The handler reads the body. Otherwise it is called at once, and the body is thrown away as it comes."""
    works: bool = False
    """It takes a place among the connections that work, as one with this `key`."""
    key: str = ""
    """Empty for those who need none."""
    tiers_above: int = 0
    """Tiers that come before the key's."""
    lines: bytes = b""
    """Header lines of every response to the request, whoever writes it."""


class RefusedHandler:
    """A handler that answers with an error."""

    def __init__(self, error: ErrorBody, lines: bytes = b"", *, close: bool = False) -> None:
        self._error = error
        self._lines = lines
        self._close = close

    async def __call__(self, connection: "Connection", request: "Request") -> None:
        """Answer one request."""
        del request
        await connection.respond_error(self._error, self._lines, close=self._close)
