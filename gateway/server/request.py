"""HTTP/1.1 requests from bytes, bounded, without IO: httptools (llhttp) parses, this file counts and refuses."""

from collections import deque

import httptools

from gateway.errors import HttpError
from gateway.server.limits import Limits


class Request:
    """One whole request. Header names are in lower case."""

    __slots__ = ("arrived_at", "body", "headers", "keep_alive", "method", "path", "query", "upgrade", "version")

    def __init__(self) -> None:
        self.method = b""
        self.path = b""
        self.query = b""
        self.version = "1.1"
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.keep_alive = True
        self.upgrade = False
        self.arrived_at = 0.0

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower case) name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


def bearer_of(value: bytes | None) -> str | None:
    """The key in an Authorization header; None for none, or another scheme."""
    scheme, _, key = (value or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return key.strip().decode("latin1") or None


class RequestParser:
    """Feed it bytes as they come; whole requests appear in `requests`, in order.

    `feed` raises `HttpError` for what cannot be or must not be read; the parser is then of no more use.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._ignored_upgrade = False
        self.requests: deque[Request] = deque()
        self.trailing = b""
        """What followed an upgrade request: the first bytes of the other protocol."""
        self.wants_continue = False
        """The client waits for "100 Continue" before it sends the body."""
        self.mid_head = False
        self.mid_body = False
        self._request = Request()
        self._target = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._refusal: HttpError | None = None

    @property
    def mid_request(self) -> bool:
        """Part of a request has arrived."""
        return self.mid_head or self.mid_body

    def feed(self, data: bytes, now: float) -> None:
        """Take what the socket gave; `now` becomes the time at which a request that begins here arrived."""
        self._now = now
        # The bound is looked at between packets, and again for each whole head: a packet is never larger than one read.
        self._wire_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = _refusal_of(error, self._parser)
        if self._refusal is None and self.mid_head and self._wire_bytes > self._limits.max_head_bytes:
            self._refuse_head(f"are longer than {self._limits.max_head_bytes} bytes")
        if self._refusal is None and self.mid_body and self._wire_bytes > 2 * self._limits.max_body_bytes + 2**17:
            # Chunk sizes, extensions and trailers count for something, too.
            self._refuse_body()
        if self._refusal is not None:
            raise self._refusal

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
            else:
                return
            if not self._ignored_upgrade:
                self.trailing = data
                return
            # httptools leaves out the body of whatever wants an upgrade, as Java's client does with each request:
            # read on as if that wish had not been there.
            self._ignored_upgrade = False
            arrived_at = self._request.arrived_at
            head = _head_without_upgrade(self._request, self._target)
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head)
            self._request.arrived_at = arrived_at

    # What httptools calls. An exception here would be wrapped and lose its meaning, so refusals are remembered.

    def on_message_begin(self) -> None:
        """A request line begins."""
        self._request = Request()
        self._request.arrived_at = self._now
        self._target = b""
        self._body = []
        self._body_bytes = 0
        self._wire_bytes = 0
        self._head_bytes = 0
        self.mid_head = True

    def on_url(self, part: bytes) -> None:
        """A part of the request target."""
        self._target += part
        self._head_bytes += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body, which nobody here reads."""
        if not self.mid_head:
            return
        headers = self._request.headers
        headers.append((name.lower(), value))
        self._head_bytes += len(name) + len(value) + 4
        if len(headers) > self._limits.max_headers:
            self._refuse_head(f"are more than {self._limits.max_headers}")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        request = self._request
        self.mid_head = False
        self.mid_body = True
        self._wire_bytes = 0
        request.method = self._parser.get_method()
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        request.path, _, request.query = _origin_form(self._target).partition(b"?")
        hosts = 0
        for name, value in request.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                # llhttp has checked that these are digits.
                if int(value) > self._limits.max_body_bytes:
                    self._refuse_body()
            elif name == b"expect" and value.lower() == b"100-continue":
                self.wants_continue = True
        if self._head_bytes > self._limits.max_head_bytes:
            self._refuse_head(f"are longer than {self._limits.max_head_bytes} bytes")
        if hosts > 1 or (hosts == 0 and request.version == "1.1"):
            self._refuse(HttpError(400, "bad_request", "An HTTP/1.1 request needs exactly one Host header."))

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._body.append(part)
        self._body_bytes += len(part)
        if self._body_bytes > self._limits.max_body_bytes:
            self._body.clear()
            self._refuse_body()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.mid_body = False
        self.wants_continue = False
        if self._refusal is not None:
            return
        request = self._request
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if self._parser.should_upgrade():
            upgrade = request.header(b"upgrade") or b""
            request.upgrade = upgrade.lower() == b"websocket" and request.method == b"GET"
            request.keep_alive = False
            if not request.upgrade and request.method != b"CONNECT":
                # Only WebSocket is spoken besides HTTP/1.1; any other wish is ignored.
                self._ignored_upgrade = True
                return
        self.requests.append(request)

    def _refuse(self, error: HttpError) -> None:
        if self._refusal is None:
            self._refusal = error

    def _refuse_head(self, what: str) -> None:
        self._refuse(
            HttpError(431, "headers_too_large", f"The request's headers {what}. Send fewer or shorter headers.")
        )

    def _refuse_body(self) -> None:
        limit = self._limits.max_body_bytes
        self._refuse(
            HttpError(413, "body_too_large", f"The request's body is longer than {limit} bytes. Send a shorter prompt.")
        )


def _head_without_upgrade(request: Request, target: bytes) -> bytes:
    lines = [b"%b %b HTTP/%b\r\n" % (request.method, target, request.version.encode())]
    for name, value in request.headers:
        if name == b"connection":
            kept = [each for each in value.split(b",") if each.strip().lower() not in {b"upgrade", b"http2-settings"}]
            lines.append(b"connection: %b\r\n" % b",".join(kept))
        elif name not in {b"upgrade", b"http2-settings"}:
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines) + b"\r\n"


def _origin_form(target: bytes) -> bytes:
    """What a client writes to a proxy names the host, too; every server must understand it (RFC 9112, 3.2.2)."""
    scheme, mark, rest = target.partition(b"://")
    if target.startswith(b"/") or not mark or scheme.lower() not in {b"http", b"https"}:
        return target
    end = min([at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0])
    return rest[end:] if rest[end : end + 1] == b"/" else b"/" + rest[end:]


def _refusal_of(error: httptools.HttpParserError, parser: httptools.HttpRequestParser) -> HttpError:
    if "PRI/Upgrade" in str(error):
        return HttpError(505, "http_version_not_supported", "This server speaks HTTP/1.1, not HTTP/2.")
    return HttpError(400, "bad_request", f"The request is not valid HTTP/1.1: {error}.")
