"""One parsed HTTP request."""

from types import EllipsisType

Body = bytes | bytearray


class Request:
    """A request whose head is complete. Header names are in lower case."""

    __slots__ = (
        "_first",
        "_key",
        "arrived_at",
        "body",
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
        self._key: str | EllipsisType | None = ...
        self.body: Body = b""
        """The complete body; empty if the route reads none."""
        self.keep_alive = True
        self.upgrade = False
        self.arrived_at = 0.0

    def header(self, name: bytes) -> bytes | None:
        """The first header with that name (lower case)."""
        return self._first.get(name)

    @property
    def key(self) -> str | None:
        """The API key in the headers."""
        if self._key is ...:
            self._key = _key_of(self)
        return self._key

    def end_head(self) -> None:
        """All headers have arrived: index them."""
        self._first = dict(reversed(self.headers))

    def repeats(self, name: bytes) -> bool:
        """Whether a header occurs more than once."""
        return len(self._first) != len(self.headers) and [header for header, _ in self.headers].count(name) > 1


SOCKET_PROTOCOL = b"penstock"
"""The subprotocol that the server selects if a handshake offers it."""
_KEY_PROTOCOL = b"penstock-key."
KEY_HEADERS = frozenset({b"authorization", b"sec-websocket-protocol"})
"""Headers that may hold a key: their values are recorded nowhere."""


def offered_protocols(request: Request) -> list[bytes]:
    """The subprotocols that a WebSocket handshake offers."""
    values = [value for name, value in request.headers if name == b"sec-websocket-protocol"]
    return [name for part in b",".join(values).split(b",") if (name := part.strip())]


def _key_of(request: Request) -> str | None:
    # A web page cannot set headers for a WebSocket, but it can offer subprotocols: `penstock-key.` and the key.
    key = bearer_of(request.header(b"authorization"))
    if key is not None or not request.upgrade:
        return key
    keys = [protocol for protocol in offered_protocols(request) if protocol.startswith(_KEY_PROTOCOL)]
    return keys[0].removeprefix(_KEY_PROTOCOL).decode("latin1") or None if keys else None


def bearer_of(value: bytes | None) -> str | None:
    """The key in an Authorization header; None without one, or for another scheme."""
    scheme, _, key = (value or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return key.strip().decode("latin1") or None
