"""Chooses the handler of a request to the admin API, after the checks that come before its body is read."""

from collections.abc import Callable

from actors.api.errors import Refusal
from actors.control.admin_service import AdminService
from gateway.endpoints.admin_routes import create_admin_app
from gateway.http.asgi import AsgiRoute
from gateway.http.gate import RefusedHandler, Route
from gateway.http.loopback import check_local
from gateway.http.request import Request, bearer_of


class AdminRoutes:
    """The routing function of the admin API's server."""

    def __init__(self, admin: AdminService, exposition: Callable[[], bytes]) -> None:
        """`exposition`: makes the text of `/metrics`."""
        self._admin = admin
        self._app = AsgiRoute(create_admin_app(admin, exposition))

    def __call__(self, request: Request) -> Route:
        """The route of a request whose head is complete. Never raises: a refusal is a route, too."""
        try:
            if self._admin.keyless:
                check_local(request, frozenset())
            if reads := request.method == b"POST":
                # The quart app checks keys, too, but only when the body has been read.
                self._admin.check_key(bearer_of(request.header(b"authorization")))
        except Refusal as refusal:
            return Route(RefusedHandler(refusal.body))
        return Route(self._app, body=reads, works=reads)
