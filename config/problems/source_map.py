"""Where each key and value of a TOML document stands: parsers give values, people need lines.

A small scanner over text that `tomllib` has accepted already, so it never has to judge, only to find its way.
"""

import re
from bisect import bisect_right
from pathlib import Path as FilePath

import msgspec

Path = tuple[str | int, ...]
"""Of a value in the document: keys, and positions in arrays."""

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
    """Counted from 1, columns in characters."""

    line: int
    column: int
    file: FilePath | None = None
    """None: there is only one."""


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
    """Positions by path. Asked for a path that is not written, it answers with the nearest one around it."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", self._text))]
        self._keys: dict[Path, int] = {}
        self._values: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}
        self._headed: dict[Path, int] = {}
        self._again: tuple[Path, int, int] | None = None
        self._at = 0
        self._document()

    def key(self, path: Path) -> Position:
        """Where the key is written that made this path."""
        return self._find(self._keys, path)

    def value(self, path: Path) -> Position:
        """Where the value begins; for a table with a header, where the header names it."""
        return self._find(self._values, path)

    def depth(self, path: Path) -> int:
        """How many of the path's steps are written."""
        known = [
            length for length in range(1, len(path) + 1) if path[:length] in self._keys or path[:length] in self._values
        ]
        return max(known, default=0)

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

    def _note_again(self, path: Path, here: int, places: dict[Path, int]) -> None:
        if self._again is None and path in places:
            self._again = path, self._keys.get(path, places[path]), here

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
                self._note_again(path, offset, self._values)
                if number == len(names):
                    self._note_again(path, offset, self._headed)
                    self._headed[path] = offset
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for name, offset in self._dotted_key():
            path = (*path, name)
            self._note_again(path, offset, self._values)
            self._keys.setdefault(path, offset)
        self._note_again(path, offset, self._headed)
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
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK_LINES)
            if self._text[self._at] == "]":
                self._at += 1
                return
            self._value((*path, index))
            index += 1
            self._skip(_BLANK_LINES)
            if self._text[self._at] == ",":
                self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK_LINES)
            if self._text[self._at] == "}":
                self._at += 1
                return
            self._pair(path)
            self._skip(_BLANK_LINES)
            if self._text[self._at] == ",":
                self._at += 1

    def _string(self) -> str:
        for opening, pattern in _STRINGS:
            if self._text.startswith(opening, self._at):
                return self._skip(pattern)
        raise AssertionError("called on a quotation mark only")

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        assert found is not None, "tomllib has accepted this text"
        self._at = found.end()
        return found.group()


class BrokenSourceMap(SourceMap):
    """Of a text that `tomllib` has refused: as far as it is good."""

    def said_twice(self) -> tuple[Path, Position, Position] | None:
        """The first thing that it says twice, and both places."""
        if self._again is None:
            return None
        path, first, second = self._again
        return path, self._position(first), self._position(second)

    def _document(self) -> None:
        try:
            super()._document()
        except (AssertionError, IndexError, ValueError):
            return


def _unescape(found: re.Match[str]) -> str:
    code = found.group(1) or found.group(2)
    return chr(int(code, 16)) if code else _ESCAPED[found.group(3)]
