"""Which handler answers a request to the admin API: quart's, behind the guard that loopback needs."""

from collections.abc import Callable

from actors.desk import Desk
from gateway.admin.site import create_admin_site
from gateway.errors import HttpError
from gateway.loopback import check_local
from gateway.routes import Refused
from gateway.server.asgi import AsgiRoute
from gateway.server.connection import Handler
from gateway.server.request import Request


class AdminRoutes:
    """Finds handlers."""

    def __init__(self, desk: Desk, exposition: Callable[[], bytes]) -> None:
        """`exposition`: what a scrape of `/metrics` reads."""
        self._desk = desk
        self._site = AsgiRoute(create_admin_site(desk, exposition))

    def __call__(self, request: Request) -> Handler:
        """The handler of a request."""
        if self._desk.keyless:
            try:
                check_local(request, frozenset())
            except HttpError as error:
                return Refused(error)
        return self._site
