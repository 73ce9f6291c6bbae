"""Splits a file of requests into its lines as it is read. Pure."""

import msgspec


class FileLine(msgspec.Struct, frozen=True):
    """One line that is not blank."""

    number: int
    """From 1; blank lines are counted."""
    start: int
    """First byte in the file."""
    raw: bytes
    """Without its end; of a line that is too long only the beginning."""
    too_long: bool = False


class LineSplitter:
    """`feed` it the file in pieces, then `end` it. It holds one line at most."""

    def __init__(self, max_line_bytes: int) -> None:
        self._most = max_line_bytes
        self._rest = bytearray()
        self._start = 0
        self._skipped = 0
        """Bytes of the present line that were dropped, as it is too long."""
        self._number = 0

    def feed(self, data: bytes) -> list[FileLine]:
        """The lines that end in `data`."""
        lines: list[FileLine] = []
        begin = 0
        while (end := data.find(b"\n", begin)) >= 0:
            self._hold(data[begin:end])
            self._take(lines, ended=1)
            begin = end + 1
        self._hold(data[begin:])
        return lines

    def end(self) -> list[FileLine]:
        """The last line, if the file does not end with a line's end."""
        lines: list[FileLine] = []
        if self._rest or self._skipped:
            self._take(lines, ended=0)
        return lines

    def _hold(self, part: bytes) -> None:
        room = self._most + 1 - len(self._rest)
        self._rest += part[: max(room, 0)]
        self._skipped += max(len(part) - max(room, 0), 0)

    def _take(self, lines: list[FileLine], *, ended: int) -> None:
        self._number += 1
        raw, too_long = bytes(self._rest), len(self._rest) + self._skipped > self._most
        if raw.strip():
            lines.append(FileLine(self._number, self._start, raw.rstrip(b"\r"), too_long))
        self._start += len(self._rest) + self._skipped + ended
        self._rest.clear()
        self._skipped = 0
