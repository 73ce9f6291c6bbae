"""CORS headers (Fetch standard), so that web pages of listed origins may use the server.

There are no cookies, so a page cannot use its visitor's rights: it needs a key like any client.
"""

import re
from collections.abc import Set as AbstractSet

from gateway.errors import HttpError
from gateway.http.connection import Connection
from gateway.http.request import Request

_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_USUAL_HEADERS = b"authorization, content-type"
_VARY = b"vary: origin\r\n"
_EXPOSED = (
    b"access-control-expose-headers: *, x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, "
    b"x-penstock-policy, x-penstock-route, x-penstock-rung, x-penstock-why, x-penstock-arm, x-penstock-adapter\r\n"
)
"""The `*` covers all others, too, but old browsers do not know it."""
_PREFLIGHT_S = 600


def origin_error(alternative: str = "") -> HttpError:
    """The error for pages of an origin that is not allowed. `alternative`: another remedy."""
    return HttpError(
        403,
        "origin_not_allowed",
        "Pages of this browser origin may not use the server: add it to `ws_origins` in the [server] table of the "
        f"configuration{alternative}.",
        kind="permission_error",
    )


class Cors:
    """The allowed origins and their headers."""

    def __init__(self, origins: AbstractSet[str]) -> None:
        self._lines = {
            origin.encode("latin1"): b"access-control-allow-origin: %b\r\n%b%b"
            % (origin.encode("latin1"), _EXPOSED, _VARY)
            for origin in origins
        }
        self._others = _VARY if origins else b""

    def lines(self, origin: bytes | None) -> bytes:
        """Header lines for each response to a request from `origin`, errors included."""
        return self._others if origin is None else self._lines.get(origin, self._others)

    def is_preflight(self, request: Request, origin: bytes | None) -> bool:
        """Whether this is a browser's preflight request. Raises `HttpError` if it is and the origin is not allowed."""
        if request.method != b"OPTIONS" or origin is None or request.header(b"access-control-request-method") is None:
            return False
        if origin not in self._lines:
            raise origin_error()
        return True

    async def answer_preflight(self, connection: Connection, request: Request) -> None:
        """Allow it with any headers: the official clients send many of their own."""
        requested = request.header(b"access-control-request-headers") or b""
        names = [name for part in requested.split(b",") if _NAME.fullmatch(name := part.strip())]
        lines = b"access-control-allow-methods: GET, POST, DELETE\r\naccess-control-allow-headers: %b\r\n" % (
            b", ".join(names) or _USUAL_HEADERS
        )
        if request.header(b"access-control-request-private-network") == b"true":
            lines += b"access-control-allow-private-network: true\r\n"
        await connection.respond(200, lines + b"access-control-max-age: %d\r\n" % _PREFLIGHT_S, b"")
