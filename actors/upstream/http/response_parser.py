"""One response, parsed from bytes as they arrive, on httptools (llhttp). Sans-IO.

Responses framed by length, by chunks, or by the end of the connection (RFC 9112, section 6.3); interim responses
(1xx) are skipped. Bytes after a complete response make its connection unusable: they would be read as the response to
the next request, possibly of another client.
"""

from collections.abc import Mapping

import httptools

from actors.upstream.http.errors import ConnectionLostError, InvalidResponseError

MAX_HEAD_BYTES = 64 * 1024
_BODILESS = frozenset({204, 304})


class ResponseParser:
    """Pass all bytes to `feed`, and `end` when the connection ends."""

    def __init__(self) -> None:
        self.status = 0
        """0: the head is not complete."""
        self.headers: Mapping[str, str] = {}
        """By lower-case name; repeated ones are joined with ", "."""
        self.complete = False
        self.leftover = False
        """There were bytes after the response."""
        self._parser = httptools.HttpResponseParser(self)
        # Hand-written servers end lines with LF alone; with no other request on the way that is unambiguous.
        self._parser.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True, lenient_data_after_close=True
        )
        self._head_bytes = 0
        self._lines: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._keep_alive = False

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self.complete and self._keep_alive and not self.leftover

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. Raises InvalidResponseError."""
        if self.complete:
            self.leftover = True
            return b""
        if not self.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise InvalidResponseError("it switches to another protocol") from None
        except httptools.HttpParserError as error:
            if not self.complete:
                raise InvalidResponseError(f"it is not HTTP: {error}"[:200]) from None
        if not self.status and self._head_bytes > MAX_HEAD_BYTES:
            raise InvalidResponseError("its head is too long")
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        joined = b"".join(pieces)
        pieces.clear()
        return joined

    def end(self) -> None:
        """The connection has ended. Raises ConnectionLostError unless the response ends with it."""
        if self.complete:
            return
        framed = "content-length" in self.headers or "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self.status or framed:
            raise ConnectionLostError("the connection was closed")
        self.complete = True

    # --- called by httptools --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins; after a complete response there should be none."""
        if self.complete:
            self.leftover = True
        self._lines = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailers, which are dropped."""
        if not self.status:
            self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        status = self._parser.get_status_code()
        if self.complete or status < 200:
            return
        headers: dict[str, str] = {}
        for name, value in self._lines:
            key, text = name.decode("latin1").lower(), value.decode("latin1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text
        self.status, self.headers = status, headers
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """An interim response ends here, too."""
        self.complete = self.complete or self.status != 0
