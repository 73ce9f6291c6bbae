"""The routing decision for a request, made when its head is complete and before its body is read."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from actors.api.errors import ErrorBody

if TYPE_CHECKING:
    from gateway.http.connection import Connection
    from gateway.http.request import Request

Handler = Callable[["Connection", "Request"], Awaitable[None]]
"""Answers one request with `respond`, `event_stream` or `begin_upgrade`; raises `Refusal` to refuse it."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """The routing decision. A refusal is a route, too, whose handler answers with the error."""

    handler: Handler
    body: bool = False
    """The handler reads the body. Otherwise it is called at once, and the body is dropped."""
    works: bool = False
    """The connection needs a place among the working ones, counted for `key`."""
    key: str = ""
    """Empty where no key is needed."""
    tiers_above: int = 0
    """Number of tiers above the key's."""
    lines: bytes = b""
    """Header lines of every response to the request, errors included."""


class RefusedHandler:
    """A handler that answers with an error."""

    def __init__(self, error: ErrorBody, lines: bytes = b"", *, close: bool = False) -> None:
        self._error = error
        self._lines = lines
        self._close = close

    async def __call__(self, connection: "Connection", request: "Request") -> None:
        del request
        await connection.respond_error(self._error, self._lines, close=self._close)
