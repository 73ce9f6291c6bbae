"""Which handler answers a request to the admin API: quart's, behind the guard that loopback needs."""

from collections.abc import Callable

from actors.api.errors import Refusal
from actors.control.admin_service import AdminService
from gateway.endpoints.admin_routes import create_admin_site
from gateway.http.asgi import AsgiRoute
from gateway.http.loopback import check_local
from gateway.http.request import Request, bearer_of
from gateway.http.route import RefusedHandler, Route


class AdminRoutes:
    """Finds handlers."""

    def __init__(self, admin: AdminService, exposition: Callable[[], bytes]) -> None:
        """`exposition`: what a scrape of `/metrics` reads."""
        self._admin = admin
        self._site = AsgiRoute(create_admin_site(admin, exposition))

    def __call__(self, request: Request) -> Route:
        """Where a request goes whose head is whole."""
        try:
            if self._admin.keyless:
                check_local(request, frozenset())
            if reads := request.method == b"POST":
                # The site looks at keys itself, but a body would be there by then.
                self._admin.check_key(bearer_of(request.header(b"authorization")))
        except Refusal as refusal:
            return Route(RefusedHandler(refusal.body))
        return Route(self._site, body=reads, works=reads)
