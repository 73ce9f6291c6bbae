"""Incremental parser of server-sent events. Sans-IO, with bounded memory.

The grammar is that of the HTML standard, section 9.2.6: lines end with CR, LF or CRLF; a line with a leading colon is a
comment; an empty line ends an event. An event without an empty line after it is discarded there; `close` returns it,
because some servers omit the last empty line. Nor is one discarded that has only a name, which may be "error".
"""

import msgspec

MAX_EVENT_BYTES = 8 << 20
"""Maximum bytes of one line, and of one event's data: it may hold an image."""
BOM = b"\xef\xbb\xbf"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event."""

    name: bytes
    """Empty if there was no event field."""
    data: bytes


class EventTooLong(Exception):  # noqa: N818  (named for what happened)
    """A line or an event is longer than MAX_EVENT_BYTES."""


class SseReader:
    """Pass all bytes to `feed`; buffers at most one line and one event."""

    def __init__(self, longest: int = MAX_EVENT_BYTES) -> None:
        self._longest = longest
        self._line = bytearray()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._skip_lf = False
        self._first = True

    @property
    def between_events(self) -> bool:
        """Whether an event ended with the last byte."""
        return not (self._first or self._line or self._data or self._name or self._skip_lf)

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that are complete now. Raises EventTooLong, after which the reader is unusable."""
        events: list[SseEvent] = []
        if self._skip_lf and data:
            # The CR that ended the last line may be the first half of a CRLF.
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        self._skip_lf = self._skip_lf or data.endswith(b"\r")
        # For bytes, `splitlines` splits at exactly these three line ends.
        for piece in data.splitlines(keepends=True):
            line = piece.rstrip(b"\r\n")
            if len(self._line) + len(line) > self._longest:
                raise EventTooLong
            if len(line) == len(piece):
                self._line += line
                break
            if self._line:
                line = bytes(self._line + line)
                self._line.clear()
            self._take(line, events)
        return events

    def close(self) -> list[SseEvent]:
        """End of the stream: returns the last event if it has no empty line after it."""
        events: list[SseEvent] = []
        line = bytes(self._line)
        self._line.clear()
        if line:
            self._take(line, events)
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[SseEvent]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(BOM)
        if not line:
            if self._data or self._name:
                events.append(SseEvent(self._name, b"\n".join(self._data)))
            self._name, self._data, self._size = b"", [], 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value) + 1
            if self._size > self._longest:
                raise EventTooLong
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif field == b"error" and not self._data:
            # Older llama.cpp versions write errors as a field of this name.
            self._name, self._data = b"error", [value]
