"""Parses HTTP/1.1 requests with httptools (llhttp), enforces limits, does no IO."""

from collections import deque
from collections.abc import Callable

import httptools

from actors.api.errors import ErrorBody, Refusal
from gateway.errors import HttpError
from gateway.http.bounds.body_book import BodyAccount
from gateway.http.bounds.limits import ServerLimits
from gateway.http.gate import Route
from gateway.http.request import Body, Request, check_head

_DROPPED_BYTES = 64 * 1024
"""A body that the route does not read is dropped up to this length, so that the connection can be kept."""
_WIRE_SLACK_BYTES = 128 * 1024
"""Bytes that chunk sizes, extensions and trailers may take, in addition to as many bytes as the body has."""


class RequestParser:
    """Feed it bytes; parsed requests appear in `requests`, in order.

    They are complete, except that a request whose route reads no body appears with its head. `feed` raises `Refusal`
    for what is malformed or over a limit; the parser must not be used after that.
    """

    def __init__(self, limits: ServerLimits, admit: Callable[[Request], Route], account: BodyAccount) -> None:
        """`admit` routes a request when its head is complete. `account` counts the bytes of bodies that are read."""
        # llhttp's object refers to its listener. If the listener referred back, they would be a reference cycle, and a
        # client's data would stay in memory until the next garbage collection.
        self._listener = _Listener(limits, admit, account)
        self._llhttp = httptools.HttpRequestParser(self._listener)
        self.requests = self._listener.requests
        """Requests that can be answered, with their routes."""
        self.trailing = b""
        """Bytes that followed an upgrade request: the beginning of the other protocol."""

    @property
    def mid_request(self) -> bool:
        """Part of a request has arrived."""
        return self._listener.mid_head or self._listener.mid_body

    @property
    def mid_body(self) -> bool:
        """A head is complete, and its body is not."""
        return self._listener.mid_body

    @property
    def unanswered(self) -> bool:
        """Part of a request has arrived, and it is not in `requests` yet."""
        return self._listener.mid_head or (self._listener.mid_body and not self._listener.dropping)

    @property
    def body_left(self) -> int:
        """Bytes to come of a body with a stated length."""
        return self._listener.body_left

    @property
    def read_head(self) -> Request | None:
        """The request whose body is being read, or that was refused; None while there is no whole head."""
        return self._listener.read_head

    @property
    def lines(self) -> bytes:
        """Header lines for a response to the request being read."""
        return self._listener.lines

    @property
    def piecewise(self) -> bool:
        """The body that is being read is for `pieces`."""
        return self._listener.piecewise

    @property
    def pieces(self) -> deque[bytes]:
        """What has come of a body that its handler reads itself; never more than was fed since they were taken."""
        return self._listener.pieces

    def takes_continue(self) -> bool:
        """Whether the client waits for "100 Continue" before it sends the body; true once."""
        wants, self._listener.wants_continue = self._listener.wants_continue, False
        return wants

    def feed(self, data: bytes, now: float) -> None:
        """Parse bytes; `now` becomes the arrival time of a request that begins in them."""
        listener = self._listener
        listener.now = now
        # The limit is checked between packets and for each complete head: a packet is never larger than one read.
        listener.wire_bytes += len(data)
        refusal: ErrorBody | None = None
        listener.llhttp = self._llhttp
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            refusal = _refusal_of(error)
        finally:
            listener.llhttp = None
        if listener.mid_head or listener.mid_body:
            listener.check_wire()
        refusal = listener.refusal or refusal
        if refusal is not None:
            # A new exception each time: one that is kept refers to the frames through which it was raised.
            raise Refusal(refusal)

    def _read_on(self, rest: bytes) -> None:
        listener = self._listener
        head = listener.take_ignored_upgrade()
        if head is None:
            self.trailing = rest
            return
        # httptools skips the body of a request with an upgrade, which Java's client sends with each request:
        # parse it again without the upgrade.
        self._llhttp = httptools.HttpRequestParser(listener)
        self.feed(head, listener.now)
        self.feed(rest, listener.now)


class _Listener:
    """Callbacks of httptools. It would wrap an exception raised here, so refusals are stored instead."""

    def __init__(self, limits: ServerLimits, admit: Callable[[Request], Route], account: BodyAccount) -> None:
        self._limits = limits
        self._admit = admit
        self._account = account
        self.llhttp: httptools.HttpRequestParser | None = None
        """Set only while bytes are fed."""
        self.requests: deque[tuple[Request, Route]] = deque()
        self.refusal: ErrorBody | None = None
        self.mid_head = False
        self.mid_body = False
        self.dropping = False
        """The body is dropped: the request was added to `requests` when its head was complete."""
        self.piecewise = False
        self.pieces: deque[bytes] = deque()
        self.wants_continue = False
        self.body_left = 0
        self.lines = b""
        self._request = Request()
        self._headers = self._request.headers
        self._max_headers = limits.max_headers
        self._route: Route
        self._most_bytes = 0
        """Of the body."""
        self._target = b""
        self._body: Body = b""
        self._body_bytes = 0
        self._head_bytes = 0
        self.wire_bytes = 0
        self._upgrade = False
        self._ignored_upgrade = False
        self._again_at: float | None = None
        self.now = 0.0

    @property
    def read_head(self) -> Request | None:
        """The request whose body is being read, or that was refused; None while there is no whole head."""
        return self._request if self.mid_body or (self.refusal is not None and not self.mid_head) else None

    def check_wire(self) -> None:
        """Refuse an incomplete request that is too long already."""
        if self.mid_head and self.wire_bytes > self._limits.max_head_bytes:
            self._refuse_head(f"are longer than {self._limits.max_head_bytes} bytes")
        if self.mid_body and self.wire_bytes > 2 * self._body_bytes + _WIRE_SLACK_BYTES:
            self._refuse_body()

    def take_ignored_upgrade(self) -> bytes | None:
        """The head without its upgrade, to be parsed instead; once."""
        if not self._ignored_upgrade:
            return None
        self._ignored_upgrade = False
        self._again_at = self._request.arrived_at
        return _head_without_upgrade(self._request, self._target)

    def on_message_begin(self) -> None:
        self._request = Request()
        self._headers = self._request.headers
        self._request.arrived_at = self.now if self._again_at is None else self._again_at
        self._again_at = None
        self._target = b""
        self._body = b""
        self._body_bytes = 0
        self.wire_bytes = 0
        self._head_bytes = 0
        self._upgrade = False
        self.mid_head = True
        self.lines = b""

    def on_url(self, part: bytes) -> None:
        self._target += part
        self._head_bytes += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body, which is ignored."""
        if not self.mid_head:
            return
        headers = self._headers
        headers.append((name.lower(), value))
        self._head_bytes += len(name) + len(value) + 4
        if len(headers) > self._max_headers:
            self._refuse_head(f"are more than {self._max_headers}")

    def on_headers_complete(self) -> None:
        request, llhttp = self._request, self.llhttp
        assert llhttp is not None, "heads are read while llhttp is fed"
        self.mid_head = False
        self.mid_body = True
        self.dropping = True
        self.wire_bytes = 0
        request.end_head()
        request.method = llhttp.get_method()
        request.version = llhttp.get_http_version()
        # Keeping the connection of an HTTP/1.0 client would need a header of its own, and few such clients are left.
        request.keep_alive = llhttp.should_keep_alive() and request.version != "1.0"
        request.path, _, request.query = _origin_form(self._target).partition(b"?")
        if self._head_bytes > self._limits.max_head_bytes:
            self._refuse_head(f"are longer than {self._limits.max_head_bytes} bytes")
        if self.refusal is not None:
            return
        upgrades = llhttp.should_upgrade()
        if upgrades:
            upgrade = request.header(b"upgrade") or b""
            self._upgrade = upgrade.lower() == b"websocket" and request.method == b"GET"
            # WebSocket is the only other protocol; any other upgrade is ignored.
            self._ignored_upgrade = not self._upgrade and request.method != b"CONNECT"
            if self._ignored_upgrade:
                return
            request.upgrade = self._upgrade
            request.keep_alive = False
        try:
            length = check_head(request, is_upgrade=self._upgrade)
        except HttpError as error:
            self.refusal = error.body
            return
        route = self._route = self._admit(request)
        self.lines = route.lines
        self._most_bytes = route.piecewise or self._limits.max_body_bytes
        self._await_body(request, length)

    def _await_body(self, request: Request, length: int | None) -> None:
        chunked = length is None and request.header(b"transfer-encoding") is not None
        expects = (request.header(b"expect") or b"").lower() == b"100-continue"
        self.body_left = length or 0
        self.dropping = not self._route.body
        self.piecewise = self._route.piecewise > 0
        if not self.dropping:
            self.wants_continue = expects
            if self.body_left > self._most_bytes:
                self._refuse_body()
            elif self.piecewise:
                self.requests.append((request, self._route))
            return
        if chunked or self.body_left > _DROPPED_BYTES or (expects and self.body_left):
            # The next request would begin only after a long or unbounded rest of the body.
            request.keep_alive = False
        self.requests.append((request, self._route))

    def on_body(self, part: bytes) -> None:
        size = len(part)
        self._body_bytes += size
        self.body_left -= min(size, self.body_left)
        if self.dropping or self.refusal is not None:
            return
        if self._body_bytes > self._most_bytes:
            self._refuse_body()
            return
        if self.piecewise:
            self.pieces.append(part)
            return
        try:
            self._account.take(size)
        except HttpError as error:
            self._refuse(error)
            return
        if not self._body:
            self._body = part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part

    def on_message_complete(self) -> None:
        self.mid_body = False
        self.wants_continue = False
        self.body_left = 0
        if self.refusal is not None or self._ignored_upgrade:
            return
        request, body = self._request, self._body
        self._body = b""
        if not (self.dropping or self.piecewise):
            request.body = body
            self.requests.append((request, self._route))

    def _refuse(self, error: HttpError) -> None:
        if self.refusal is None:
            self.refusal = error.body
            self._body = b""

    def _refuse_head(self, what: str) -> None:
        self._refuse(
            HttpError(431, "headers_too_large", f"The request's headers {what}. Send fewer or shorter headers.")
        )

    def _refuse_body(self) -> None:
        limit = self._most_bytes
        if self.piecewise:
            self._refuse(HttpError(413, "file_too_large", f"The upload is longer than {limit} bytes. Split the file."))
            return
        self._refuse(
            HttpError(413, "body_too_large", f"The request's body is longer than {limit} bytes. Send a shorter prompt.")
        )


def _head_without_upgrade(request: Request, target: bytes) -> bytes:
    lines = [b"%b %b HTTP/%b\r\n" % (request.method, target, request.version.encode())]
    for name, value in request.headers:
        if name == b"connection":
            kept = [
                token for token in value.split(b",") if token.strip().lower() not in {b"upgrade", b"http2-settings"}
            ]
            lines.append(b"connection: %b\r\n" % b",".join(kept))
        elif name not in {b"upgrade", b"http2-settings"}:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines) + b"\r\n"


def _origin_form(target: bytes) -> bytes:
    """The target's path: clients of a proxy send the host, too, which servers must accept (RFC 9112, 3.2.2)."""
    if target.startswith(b"/"):
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in {b"http", b"https"}:
        return target
    end = min([at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0])
    return rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:]


def _refusal_of(error: httptools.HttpParserError) -> ErrorBody:
    if "PRI/Upgrade" in str(error):
        return HttpError(505, "http_version_not_supported", "This server supports HTTP/1.1, not HTTP/2.").body
    return HttpError(400, "bad_request", f"The request is not valid HTTP/1.1: {error}.").body
