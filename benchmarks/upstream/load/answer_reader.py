"""Reads one HTTP/1.1 answer from parts of any size: its head, its framing, and the pieces in its body."""

from benchmarks.upstream.load.pieces import PieceCounter

_HEAD_END = b"\r\n\r\n"
_SHOWN_BYTES = 400


class AnswerReader:
    """State of one answer. Its framing is removed exactly, so that a piece split between two chunks counts, too."""

    __slots__ = ("_chunked", "_counter", "_in_head", "_rest", "_to_come", "ended", "problem", "shown")

    def __init__(self) -> None:
        self.ended = False
        self.problem = ""
        """Why this is not an answer: a status other than 200, or a lost connection."""
        self.shown = b""
        """Beginning of the answer, for messages."""
        self._counter = PieceCounter()
        self._in_head = True
        self._chunked = False
        self._to_come: int | None = None
        """Bytes to come of a body with content-length; None: it ends with the connection."""
        self._rest = b""

    @property
    def pieces(self) -> int:
        return self._counter.pieces

    @property
    def events(self) -> int:
        return self._counter.events

    def feed(self, data: bytes) -> int:
        """Number of pieces that are complete with this part."""
        if self._in_head:
            data = self._rest + data
            end = data.find(_HEAD_END)
            if end < 0:
                self._rest = data
                return 0
            self._rest = b""
            self._begin(data[:end])
            data = data[end + len(_HEAD_END) :]
        if self._chunked:
            return self._feed_chunks(data)
        if self._to_come is not None:
            self._to_come -= len(data)
            self.ended = self._to_come <= 0
        if self.problem:
            self.shown += data[:_SHOWN_BYTES]
        return self._counter.feed(data)

    def end_of_connection(self) -> None:
        """The other side has closed."""
        if not self._in_head and not self._chunked and self._to_come is None:
            self.ended = True
        elif not self.ended:
            self.problem = self.problem or "the connection was lost"

    def _begin(self, head: bytes) -> None:
        self._in_head = False
        lines = head.lower().split(b"\r\n")
        if lines[0].split(b" ", 2)[1:2] != [b"200"]:
            self.problem = lines[0].decode("latin-1")
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            if name == b"transfer-encoding" and b"chunked" in value:
                self._chunked = True
            elif name == b"content-length":
                self._to_come = int(value)

    def _feed_chunks(self, data: bytes) -> int:
        if self._rest:
            data = self._rest + data
        position, size = 0, 0
        parts = []
        while True:
            line_end = data.find(b"\r\n", position)
            if line_end < 0:
                break
            try:
                size = int(data[position:line_end].split(b";", 1)[0], 16)
            except ValueError:
                self.ended, self.problem = True, "broken chunks"
                break
            end = line_end + 2 + size
            if len(data) < end + 2:
                break
            if not size:
                self.ended = True
                position = end + 2
                break
            parts.append(data[line_end + 2 : end])
            position = end + 2
        self._rest = data[position:]
        if not parts:
            return 0
        body = b"".join(parts) if len(parts) > 1 else parts[0]
        if self.problem:
            self.shown += body[:_SHOWN_BYTES]
        return self._counter.feed(body)
