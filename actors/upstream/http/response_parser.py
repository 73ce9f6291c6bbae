"""One response, parsed from bytes as they arrive, on httptools (llhttp). Sans-IO.

Responses framed by length, by chunks, or by the end of the connection (RFC 9112, section 6.3); interim responses
(1xx) are skipped. Bytes after a complete response make its connection unusable: they would be read as the response to
the next request, possibly of another client.
"""

from collections.abc import Mapping

import httptools

from actors.upstream.http.errors import ConnectionLostError, InvalidResponseError

MAX_HEAD_BYTES = 64 * 1024


class ResponseParser:
    """Pass all bytes to `feed`, b"" for the connection's end; `response` is what they have been so far."""

    __slots__ = ("_head_bytes", "_llhttp", "response")

    def __init__(self) -> None:
        # llhttp's object refers to its listener. If the listener referred back, every response would be a reference
        # cycle, left to the garbage collector: a tenth of a whole answer's time.
        self.response = Response()
        self._llhttp = httptools.HttpResponseParser(self.response)
        # Hand-written servers end lines with LF alone; with no other request on the way that is unambiguous.
        self._llhttp.set_dangerous_leniencies(
            lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True, lenient_data_after_close=True
        )
        self._head_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. Raises InvalidResponseError, and ConnectionLostError for an early end."""
        if not data:
            self._end()
            return b""
        response = self.response
        if response.complete:
            response.leftover = True
            return b""
        if not response.status:
            self._head_bytes += len(data)
        response.llhttp = self._llhttp
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise InvalidResponseError("it switches to another protocol") from None
        except httptools.HttpParserError as error:
            if not response.complete:
                raise InvalidResponseError(f"it is not HTTP: {error}"[:200], b"".join(response.pieces)) from None
        finally:
            response.llhttp = None
        if not response.status and self._head_bytes > MAX_HEAD_BYTES:
            raise InvalidResponseError("its head is too long")
        pieces = response.pieces
        if len(pieces) == 1:
            return pieces.pop()
        joined = b"".join(pieces)
        pieces.clear()
        return joined

    def _end(self) -> None:
        """The connection has ended: so may the response."""
        response = self.response
        if response.complete:
            return
        lines = response.lines
        framed = b"content-length" in lines or b"chunked" in lines.get(b"transfer-encoding", b"").lower()
        if not response.status or framed:
            raise ConnectionLostError("the connection was closed")
        response.complete = True


class Response:
    """What llhttp has found so far. Its methods `on_...` are for httptools."""

    __slots__ = ("complete", "keep_alive", "leftover", "lines", "llhttp", "pieces", "status")

    def __init__(self) -> None:
        self.status = 0
        """0: the head is not complete."""
        self.lines: dict[bytes, bytes] = {}
        """Of the head, by lower-case name."""
        self.complete = False
        """The whole body has arrived."""
        self.leftover = False
        """There were bytes after the response."""
        self.keep_alive = False
        self.pieces: list[bytes] = []
        """Of the body, since the last `feed`."""
        self.llhttp: httptools.HttpResponseParser | None = None
        """Set only while bytes are fed."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; repeated ones are joined with ", "."""
        return {name.decode("latin1"): value.decode("latin1") for name, value in self.lines.items()}

    def header(self, name: bytes) -> str | None:
        """One of them, by its lower-case name; None: there is none."""
        value = self.lines.get(name)
        return None if value is None else value.decode("latin1")

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return self.complete and self.keep_alive and not self.leftover

    def on_message_begin(self) -> None:
        """A head begins; after a complete response there should be none."""
        if self.complete:
            self.leftover = True
        else:
            self.lines = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of a head, or of the trailers, which are dropped."""
        if not self.status:
            name = name.lower()
            self.lines[name] = self.lines[name] + b", " + value if name in self.lines else value

    def on_headers_complete(self) -> None:
        """The head is complete."""
        llhttp = self.llhttp
        assert llhttp is not None, "heads are read while llhttp is fed"
        status = llhttp.get_status_code()
        if self.complete or status < 200:
            return
        self.status = status
        self.keep_alive = llhttp.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        """An interim response ends here, too."""
        self.complete = self.complete or self.status != 0
