"""Which handler answers which request: the hot paths by table, everything else by quart."""

from collections.abc import Callable

from actors.errors import Refusal
from actors.messages import ErrorBody
from gateway.completions import CHAT, COMPLETION, CompletionHandler
from gateway.embeddings import EmbeddingHandler
from gateway.errors import HttpError
from gateway.front import Front
from gateway.loopback import check_local
from gateway.server.asgi import AsgiRoute
from gateway.server.connection import Connection, Handler
from gateway.server.limits import Limits
from gateway.server.request import Request
from gateway.site import create_site
from gateway.socket_session import SocketHandler


class Routes:
    """Finds handlers."""

    def __init__(self, front: Front, limits: Limits, origins: frozenset[str]) -> None:
        """`origins`: pages of these may ask although nobody needs a key."""
        self._origins = origins
        self._house = front.house
        self.connections: Callable[[], int] = lambda: 0
        """Tells how many there are; the server, which comes after the routes, is put in here."""
        self._site = AsgiRoute(create_site(front, lambda: self.connections()))  # noqa: PLW0108  (it is put in later)
        self._hot: dict[bytes, tuple[bytes, Handler]] = {
            b"/v1/chat/completions": (b"POST", CompletionHandler(front, CHAT)),
            b"/v1/completions": (b"POST", CompletionHandler(front, COMPLETION)),
            b"/v1/embeddings": (b"POST", EmbeddingHandler(front)),
            b"/v1/stream": (b"GET", SocketHandler(front, limits, origins)),
        }

    def __call__(self, request: Request) -> Handler:
        """The handler of a request."""
        if self._house.keyless:
            try:
                check_local(request, self._origins)
            except HttpError as error:
                return self._told(request, error)
        found = self._hot.get(request.path.removesuffix(b"/"))
        if found is None:
            return self._site
        method, handler = found
        if request.method == method:
            return handler
        wrong = HttpError(405, "method_not_allowed", f"Use {method.decode()} here.")
        return self._told(request, wrong, b"allow: %b\r\n" % method)

    def _told(self, request: Request, error: HttpError, headers: bytes = b"") -> Handler:
        """The error as the answer, and its line in the log if a model was to answer."""
        if request.path.removesuffix(b"/") in self._hot:
            self._house.request_log.not_read("", request.path.decode("latin1"), request.arrived_at, error)
        return Refused(error, headers)

    def unreadable(self, error: ErrorBody) -> None:
        """The line of what came as no request."""
        self._house.request_log.not_read("", "", None, Refusal(error))


class Refused:
    """Answers with an error."""

    def __init__(self, error: HttpError, headers: bytes = b"") -> None:
        self._error = error
        self._headers = headers

    async def __call__(self, connection: Connection, request: Request) -> None:
        """Answer one request."""
        await connection.respond_error(self._error.body, self._headers)
