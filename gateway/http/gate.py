"""Decides on a request's head before its body is read: routing, and a place among the working connections."""

from collections.abc import Awaitable, Callable

import msgspec

from actors.api.errors import ErrorBody
from gateway.errors import HttpError
from gateway.http.bounds.body_book import BodyAccount
from gateway.http.bounds.connection_places import ConnectionPlaces, PlaceRefusal
from gateway.http.connection import Connection
from gateway.http.request import Request

Handler = Callable[[Connection, Request], Awaitable[None]]
"""Answers one request with `respond`, `event_stream` or `begin_upgrade`; raises `Refusal` to refuse it."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """The routing decision. A refusal is a route, too, whose handler answers with the error."""

    handler: Handler
    body: bool = False
    """The handler reads the body. Otherwise it is called at once, and the body is dropped."""
    piecewise: int = 0
    """The handler is called at once, and reads a body of up to so many bytes itself, by `Connection.next_piece`."""
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

    async def __call__(self, connection: Connection, request: Request) -> None:
        del request
        await connection.respond_error(self._error, self._lines, close=self._close)


class Gate:
    """One connection's gate. It refers to no socket and no parser, so that these are in no reference cycle."""

    __slots__ = ("_number", "_places", "_refused", "_route", "account")

    def __init__(
        self,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request], bytes],
        places: ConnectionPlaces,
        number: int,
        account: BodyAccount,
    ) -> None:
        """`refused` is called when there is no place; it returns header lines for the answer."""
        self._route = route
        self._refused = refused
        self._places = places
        self._number = number
        self.account = account

    def admit(self, request: Request) -> Route:
        """The route of a request; one that refuses if there is no place for its connection."""
        route = self._route(request)
        if route.works:
            refused = self._places.work(self._number, route.key, route.tiers_above)
            if refused is not None:
                error = place_refusal(refused).body
                handler = RefusedHandler(error, self._refused(error, request), close=True)
                return msgspec.structs.replace(route, handler=handler, body=False, piecewise=0, works=False)
            if route.body and not route.piecewise:
                self.account.charge_to(route.key, route.tiers_above)
        return route

    def rest(self) -> None:
        """The connection has answered and waits for another request."""
        self._places.wait(self._number)

    def close(self) -> None:
        self._places.close(self._number)
        self.account.give(self.account.held)


def place_refusal(refused: PlaceRefusal) -> HttpError:
    """The error for the client."""
    if refused == "full":
        return HttpError(
            503,
            "too_many_connections",
            "The server has reached its limit of connections. Try again in a moment.",
            kind="server_error",
            should_retry=True,
        )
    whose = "key" if refused == "key" else "address"
    return HttpError(
        429,
        "too_many_connections",
        f"This {whose} has reached its limit of connections. Reuse them, or wait until one is free.",
        kind="rate_limit_error",
        should_retry=True,
    )
