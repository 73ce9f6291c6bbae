"""Maps the keys and values of a TOML document to their positions, which `tomllib` does not provide.

A small scanner. `tomllib` has already accepted the text, so the scanner need not detect errors.
"""

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path as FilePath

import msgspec

Path = tuple[str | int, ...]
"""The path of a value in the document: keys and array indices."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRINGS = (
    ('"""', re.compile(r'"""(?:\\.|[^\\])*?"{3,5}(?!")', re.DOTALL)),
    ("'''", re.compile(r"'''.*?'{3,5}(?!')", re.DOTALL)),
    ('"', re.compile(r'"(?:\\.|[^"\\])*"')),
    ("'", re.compile(r"'[^']*'")),
)
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([btnfre"\\]))')
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b", '"': '"', "\\": "\\"}


class Position(msgspec.Struct, frozen=True, order=True):
    """Lines and columns are counted from 1, columns in characters."""

    line: int
    column: int
    file: FilePath | None = None
    """None: the only file."""


def show_path(path: Path) -> str:
    """("ladders", "safe", 0, "to") → "ladders.safe[0].to"."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            word = part if _BARE.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            shown += f".{word}" if shown else word
    return shown


class SourceMap:
    """Positions by path. A path that is not in the text has the position of the closest one that contains it."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", self._text))]
        self._keys: dict[Path, int] = {}
        self._values: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._headed: dict[Path, int] = {}
        self._duplicate: tuple[Path, int, int] | None = None
        """The first path that is defined twice, and the offsets of both definitions."""
        self._at = 0
        self._document()

    def key(self, path: Path) -> Position:
        return self._find(self._keys, path)

    def value(self, path: Path) -> Position:
        """The start of the value; for a table with a header, its name in the header."""
        return self._find(self._values, path)

    def holds(self, path: Path) -> bool:
        """Whether the path is in the text."""
        return path in self._keys or path in self._values

    def depth(self, path: Path) -> int:
        """How many of the path's steps are in the text."""
        return max([length for length in range(1, len(path) + 1) if self.holds(path[:length])], default=0)

    def _find(self, first: dict[Path, int], path: Path) -> Position:
        while path:
            for places in (first, self._keys, self._values):
                if path in places:
                    return self._position(places[path])
            path = path[:-1]
        return Position(1, 1)

    def _position(self, offset: int) -> Position:
        line = bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)

    def _note_duplicate(self, path: Path, here: int, places: dict[Path, int]) -> None:
        if self._duplicate is None and path in places:
            self._duplicate = path, self._keys.get(path, places[path]), here

    def _document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BLANK_LINES)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        names = self._dotted_key()
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        path: Path = ()
        for number, (name, offset) in enumerate(names, 1):
            path = (*path, name)
            self._keys.setdefault(path, offset)
            if number == len(names) and is_array:
                index = self._arrays[path] = self._arrays.get(path, -1) + 1
                path = (*path, index)
                self._keys[path] = offset
            elif path in self._arrays:
                path = (*path, self._arrays[path])
            else:
                self._note_duplicate(path, offset, self._values)
                if number == len(names):
                    self._note_duplicate(path, offset, self._headed)
                    self._headed[path] = offset
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for name, offset in self._dotted_key():
            path = (*path, name)
            self._note_duplicate(path, offset, self._values)
            self._keys.setdefault(path, offset)
        self._note_duplicate(path, offset, self._headed)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _dotted_key(self) -> list[tuple[str, int]]:
        names = []
        while True:
            self._skip(_BLANK)
            offset = self._at
            if self._text[offset] in "\"'":
                raw = self._string()
                name = _ESCAPE.sub(_unescape, raw[1:-1]) if raw[0] == '"' else raw[1:-1]
            else:
                name = self._skip(_BARE)
            names.append((name, offset))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: Path) -> None:
        self._values[path] = self._at
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._members("]", lambda index: self._value((*path, index)))
        elif first == "{":
            self._members("}", lambda _: self._pair(path))
        else:
            self._skip(_SCALAR)

    def _members(self, closer: str, read: Callable[[int], None]) -> None:
        """Read the members of an array or an inline table, up to the closing bracket."""
        self._at += 1
        for index in itertools.count():
            self._skip(_BLANK_LINES)
            if self._text[self._at] == closer:
                self._at += 1
                return
            read(index)
            self._skip(_BLANK_LINES)
            if self._text[self._at] == ",":
                self._at += 1

    def _string(self) -> str:
        for opening, pattern in _STRINGS:
            if self._text.startswith(opening, self._at):
                return self._skip(pattern)
        raise AssertionError("not at a quotation mark")

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "tomllib has accepted this text"
        self._at = match.end()
        return match.group()


class BrokenSourceMap(SourceMap):
    """Positions in a text that `tomllib` has refused, up to the first error."""

    def duplicate(self) -> tuple[Path, Position, Position] | None:
        """The first path that is defined twice, and the positions of both definitions."""
        if self._duplicate is None:
            return None
        path, first, second = self._duplicate
        return path, self._position(first), self._position(second)

    def _document(self) -> None:
        try:
            super()._document()
        except (AssertionError, IndexError, ValueError):
            return


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    return chr(int(code, 16)) if code else _ESCAPED[match.group(3)]
