"""Response heads as bytes. Constant parts are made once; the date once a second."""

import email.utils
import http
import math

import msgspec

from actors.api.errors import ErrorBody

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nserver: penstock\r\n".encode()
    for status in http.HTTPStatus
}
_WITHOUT_CONTENT = frozenset({204, 304})
"""Their length is not said (RFC 9110, 8.6)."""
JSON_TYPE = b"content-type: application/json\r\n"
_STREAM_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
CLOSE = b"connection: close\r\n"
_encode = msgspec.json.Encoder().encode


class DateLine:
    """The `date:` header, formatted at most once a second."""

    def __init__(self) -> None:
        self._line = b""
        self._until = -math.inf

    def at(self, now: float) -> bytes:
        """The header line at a monotonic time in seconds."""
        if now >= self._until:
            self._line = f"date: {email.utils.formatdate(usegmt=True)}\r\n".encode()
            self._until = now + 1
        return self._line


def whole(status: int, date: bytes, headers: bytes, body: bytes, *, close: bool, without_body: bool = False) -> bytes:
    """A complete response with its length; `headers` are lines that end in CRLF. `without_body`: for HEAD."""
    head = sized_head(status, date, headers, len(body), close=close)
    return head if without_body or status in _WITHOUT_CONTENT else head + body


def sized_head(status: int, date: bytes, headers: bytes, size: int, *, close: bool) -> bytes:
    """The head of a response with a body of `size` bytes; the arguments as those of `whole`."""
    return b"%b%b%b%b%b\r\n" % (
        _STATUS_LINES[status],
        date,
        headers,
        CLOSE if close else b"",
        b"" if status in _WITHOUT_CONTENT else b"content-length: %d\r\n" % size,
    )


def stream_head(date: bytes, headers: bytes, *, chunked: bool, close: bool) -> bytes:
    """The head of an event stream. Without chunks, the body ends with the connection."""
    return b"%b%b%b%b%b%b\r\n" % (
        _STATUS_LINES[200],
        date,
        _STREAM_HEADERS,
        headers,
        b"transfer-encoding: chunked\r\n" if chunked else b"",
        CLOSE if close or not chunked else b"",
    )


def error_object(error: ErrorBody, request: object = None) -> bytes:
    """The error body of the OpenAI API, whatever the request was."""
    del request
    return _encode({"error": error.fields()})


def error_headers(error: ErrorBody) -> bytes:
    """The content type, and the headers by which the official clients decide on a retry."""
    lines = [JSON_TYPE, b"x-should-retry: true\r\n" if error.should_retry else b"x-should-retry: false\r\n"]
    wait_s = error.retry_after_s
    if wait_s is None and error.should_retry:
        wait_s = 1.0
    if wait_s is not None:
        lines.append(
            b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (max(math.ceil(wait_s), 1), math.ceil(wait_s * 1000))
        )
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        lines.append(b'www-authenticate: Bearer realm="penstock"\r\n')
    return b"".join(lines)
