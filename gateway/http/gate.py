"""What a head must pass before its body is read: the router, and a place among the connections that work."""

from collections.abc import Callable

import msgspec

from actors.api.errors import ErrorBody
from gateway.errors import HttpError
from gateway.http.bounds.body_book import BodyAccount
from gateway.http.bounds.connection_places import ConnectionPlaces, PlaceRefusal
from gateway.http.request import Request
from gateway.http.route import RefusedHandler, Route


class Gate:
    """One connection's. It knows no socket and no parser, so that nothing holds these in a cycle."""

    __slots__ = ("_number", "_places", "_refused", "_route", "account")

    def __init__(
        self,
        route: Callable[[Request], Route],
        refused: Callable[[ErrorBody, Request], bytes],
        places: ConnectionPlaces,
        number: int,
        account: BodyAccount,
    ) -> None:
        """`refused` is told who gets no place, and gives header lines for that answer."""
        self._route = route
        self._refused = refused
        self._places = places
        self._number = number
        self.account = account

    def admit(self, request: Request) -> Route:
        """Where the request goes."""
        route = self._route(request)
        if route.works:
            refused = self._places.work(self._number, route.key, route.tiers_above)
            if refused is not None:
                error = place_refusal(refused).body
                handler = RefusedHandler(error, self._refused(error, request), close=True)
                return msgspec.structs.replace(route, handler=handler, body=False, works=False)
            if route.body:
                self.account.charge_to(route.key)
        return route

    def rest(self) -> None:
        """The connection has answered, and waits for another request."""
        self._places.wait(self._number)

    def close(self) -> None:
        """The connection ends."""
        self._places.close(self._number)
        self.account.give(self.account.held)


def place_refusal(refused: PlaceRefusal) -> HttpError:
    """What the client reads."""
    if refused == "full":
        return HttpError(
            503,
            "too_many_connections",
            "The server has no room for another connection.",
            kind="server_error",
            should_retry=True,
        )
    whose = "key" if refused == "key" else "address"
    return HttpError(
        429,
        "too_many_connections",
        f"This {whose} has as many connections as it may. Use those, or wait for one to end.",
        kind="rate_limit_error",
        should_retry=True,
    )
