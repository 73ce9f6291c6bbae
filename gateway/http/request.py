"""One parsed HTTP request, and the checks of its head.

Heads are refused if another server or a proxy could derive a different body length from them (request smuggling): RFC
9112, 6.1 and 6.3, RFC 9110, 8.4, and RFC 6455, 4.1. What llhttp itself refuses (two or malformed lengths, a length
beside an encoding, folded lines, bare line feeds, spaces before a colon) is not checked again.
"""

from collections import Counter
from collections.abc import Callable, Collection
from os import urandom
from types import EllipsisType

from gateway.errors import HttpError

Body = bytes | bytearray


class Request:
    """A request whose head is complete. Header names are in lower case."""

    __slots__ = (
        "_first",
        "_id",
        "_key",
        "arrived_at",
        "body",
        "digest",
        "header",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "upgrade",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.path = b""
        self.query = b""
        self.version = "1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        self._first: dict[bytes, bytes] = {}
        self.header: Callable[[bytes], bytes | None] = self._first.get
        """The first header with that name (lower case)."""
        self._id = ""
        self._key: str | EllipsisType | None = ...
        self.body: Body = b""
        """The complete body; empty if the route reads none."""
        self.digest = b""
        """Of the body, if an endpoint needs one after the body was dropped."""
        self.keep_alive = True
        self.upgrade = False
        self.arrived_at = 0.0

    @property
    def id(self) -> str:
        """Its id, in every answer, log line and record about it."""
        if not self._id:
            self._id = new_request_id()
        return self._id

    @property
    def key(self) -> str | None:
        """The API key in the headers."""
        if self._key is ...:
            self._key = _key_of(self)
        return self._key

    def end_head(self) -> None:
        """All headers have arrived: index them."""
        self._first = dict(reversed(self.headers))
        self.header = self._first.get

    def has_any(self, names: frozenset[bytes]) -> bool:
        """Whether there is a header with one of these names."""
        return not names.isdisjoint(self._first)

    def repeated(self) -> Collection[bytes]:
        """The names of the headers that occur more than once."""
        if len(self._first) == len(self.headers):
            return ()
        return {name for name, times in Counter([name for name, _ in self.headers]).items() if times > 1}


def new_request_id() -> str:
    """96 random bits."""
    return urandom(12).hex()


SOCKET_PROTOCOL = b"penstock"
"""The subprotocol that the server selects if a handshake offers it."""
_KEY_PROTOCOL = b"penstock-key."
KEY_HEADERS = frozenset({b"authorization", b"sec-websocket-protocol", b"x-api-key"})
"""Headers that may hold a key: their values are recorded nowhere."""


def offered_protocols(request: Request) -> list[bytes]:
    """The subprotocols that a WebSocket handshake offers."""
    values = [value for name, value in request.headers if name == b"sec-websocket-protocol"]
    return [name for part in b",".join(values).split(b",") if (name := part.strip())]


def _key_of(request: Request) -> str | None:
    # A web page cannot set headers for a WebSocket, but it can offer subprotocols: `penstock-key.` and the key.
    key = _bearer_of(request.header(b"authorization"))
    if key is None and (given := request.header(b"x-api-key")) is not None:
        key = given.strip().decode("latin1") or None
    if key is not None or not request.upgrade:
        return key
    keys = [protocol for protocol in offered_protocols(request) if protocol.startswith(_KEY_PROTOCOL)]
    return keys[0].removeprefix(_KEY_PROTOCOL).decode("latin1") or None if keys else None


def _bearer_of(value: bytes | None) -> str | None:
    """The key in an Authorization header; None without one, or for another scheme."""
    scheme, _, key = (value or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return key.strip().decode("latin1") or None


def check_head(request: Request, *, is_upgrade: bool) -> int | None:
    """The body length that the head states, if any. Raises `HttpError` if the body must not be read."""
    if request.version not in {"1.0", "1.1"}:
        raise HttpError(505, "http_version_not_supported", "This server supports HTTP/1.1 and HTTP/1.0.")
    repeated = request.repeated()
    if b"host" in repeated or (request.version == "1.1" and request.header(b"host") is None):
        raise HttpError(400, "bad_request", "An HTTP/1.1 request needs exactly one Host header.")
    for name in (b"authorization", b"x-api-key"):
        if name in repeated:
            raise HttpError(400, "bad_request", f"A request may have only one {name.decode()} header.")
    coded = request.header(b"transfer-encoding") is not None
    if coded:
        _check_codings(request)
    # llhttp has checked that there is only one, of digits.
    stated = request.header(b"content-length")
    length = None if stated is None else int(stated)
    if is_upgrade and request.method == b"GET" and (coded or length):
        raise HttpError(
            400,
            "body_not_allowed",
            "A WebSocket handshake has no body: leave Content-Length and Transfer-Encoding out.",
        )
    return length


def _check_codings(request: Request) -> None:
    values = [value for name, value in request.headers if name == b"transfer-encoding"]
    codings = [coding.strip().lower() for coding in b",".join(values).split(b",")]
    if request.version == "1.0":
        raise HttpError(400, "bad_request", "HTTP/1.0 has no Transfer-Encoding: send Content-Length.")
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
        raise HttpError(
            400, "bad_request", "The last coding in Transfer-Encoding must be 'chunked', and only the last."
        )
    if len(codings) > 1:
        raise HttpError(
            501,
            "transfer_encoding_not_supported",
            "The only supported transfer coding is 'chunked': send the body without compression.",
        )
