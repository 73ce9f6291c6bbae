"""Collects the problems that parsing and checking find."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Protocol, TypedDict, Unpack

import msgspec

from config.problems.errors import Problem, Severity
from config.problems.secrets import MASK, is_secret_step, looks_secret
from config.problems.source_map import Path, Position, SourceMap, show_path

_MAX_LISTED = 40
"""A message lists at most this many names; for more it gives their number."""
_MAX_LINES = 8
_QUOTED = re.compile(r"""(["'])(.+?)\1""")
_MAX_COMPARISONS = 100_000
"""Limit on comparisons with similar names for one file, about a quarter of a second."""


class Places(Protocol):
    """Positions of keys and values: a `SourceMap`, or a `config.parse.documents.Document` for several files."""

    def key(self, path: Path) -> Position: ...
    def value(self, path: Path) -> Position: ...
    def holds(self, path: Path) -> bool: ...


class _Given(TypedDict, total=False):
    """What may be said of every problem."""

    expected: str
    suggestion: str
    breaks: bool


class Problems:
    """The problems of one configuration.

    A place whose value could not be decoded is `broken`: problems that follow from it are not reported.
    """

    def __init__(self, file: FilePath, source: Places, secrets: Collection[str] = ()) -> None:
        """`secrets`: texts that are masked in problems."""
        self._secrets = secrets
        self._unknown: dict[tuple[str, str], int | None] = {}
        """By kind and name: index of its problem in `_problems`; None if it was not reported at a broken place."""
        self._repeated_on: dict[int, list[str]] = {}
        """By index in `_problems`: further lines with the same unknown name."""
        self._file = file
        self._source = source
        self._problems: list[Problem] = []
        self._broken: set[Path] = set()
        self._around_broken: set[Path] = set()
        """Tables and lists with a broken member: problems of the whole would follow from that."""
        self._touched: set[Path] = set()
        """Places of errors and all places that contain them."""
        self._comparisons = _MAX_COMPARISONS

    @classmethod
    def unplaced(cls) -> "Problems":
        """For values that are in no file."""
        return cls(FilePath(), SourceMap(""))

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def __len__(self) -> int:
        return len(self._problems)

    def add(
        self,
        path: Path,
        message: str,
        *,
        expected: str = "",
        suggestion: str = "",
        at_key: bool = False,
        breaks: bool = False,
        severity: Severity = "error",
        position: Position | None = None,
    ) -> None:
        """Report a problem at a value, at its key, or at `position`, unless the place is broken.

        `breaks`: the place is broken from now on.
        """
        if self.is_broken(path) or (len(path) > 1 and path in self._around_broken):
            return
        if severity == "error":
            self._touched.update(path[:length] for length in range(len(path) + 1))
        if position is None:
            position = self._source.key(path) if at_key else self._source.value(path)
        self._problems.append(
            Problem(
                file=position.file or self._file,
                line=position.line,
                column=position.column,
                where=show_path(tuple([MASK if is_secret_step(path, at) else step for at, step in enumerate(path)])),
                message=self._safe(message),
                expected=self._safe(expected),
                suggestion=MASK if self._is_secret(suggestion) else suggestion,
                severity=severity,
            )
        )
        if breaks:
            self._broken.add(path)
            self._around_broken.add(path[:-1])

    def add_at_key(self, path: Path, message: str, **given: Unpack[_Given]) -> None:
        self.add(path, message, at_key=True, **given)

    def warn(self, path: Path, message: str, **given: Unpack[_Given]) -> None:
        self.add(path, message, severity="warning", **given)

    def warn_at_key(self, path: Path, message: str, **given: Unpack[_Given]) -> None:
        self.add(path, message, at_key=True, severity="warning", **given)

    def nearest(self, word: str, words: Collection[str]) -> str:
        """The most similar name; "" if none is similar, or if the limit on comparisons is reached."""
        if len(words) > self._comparisons:
            return ""
        self._comparisons -= len(words)
        return nearest(word, words)

    def unknown_name(self, path: Path, kind: str, name: str, known: Iterable[str], *, at_key: bool = False) -> None:
        """Report a name that the file does not define. The same name in several places is one problem."""
        if self.is_broken(path):
            return
        place = ("rung" if "engine" in kind else kind, name)
        number = self._unknown.get(place)
        if number is not None:
            self._add_line(number, path)
            return
        number = len(self._problems)
        names = list(known)
        expected = f"a {kind}, but the file defines none"
        if len(names) > _MAX_LISTED:
            expected = f"one of the {len(names)} that the file defines"
        elif names:
            expected = f"one of: {', '.join(sorted(names))}"
        self.add(
            path,
            f"there is no {kind} '{name}'",
            expected=expected,
            suggestion=self.nearest(name, names),
            at_key=at_key,
        )
        self._unknown[place] = number if len(self._problems) > number else None

    def is_unknown(self, name: str) -> bool:
        return any(known == name for _, known in self._unknown)

    def _add_line(self, number: int, path: Path) -> None:
        self._touched.update(path[:length] for length in range(len(path) + 1))
        first, place = self._problems[number], self._source.value(path)
        lines = self._repeated_on.setdefault(number, [])
        elsewhere = place.file is not None and place.file != first.file
        lines.append(f"{place.file.name}:{place.line}" if elsewhere and place.file else str(place.line))
        if len(lines) <= _MAX_LINES:
            word = "line" if len(lines) == 1 else "lines"
            also = f" (also on {word} {', '.join(lines)}{', ...' if len(lines) == _MAX_LINES else ''})"
            message = first.message.partition(" (also on ")[0] + also
            self._problems[number] = msgspec.structs.replace(first, message=message)

    def _is_secret(self, text: str) -> bool:
        return bool(text) and (text in self._secrets or looks_secret(text))

    def _safe(self, text: str) -> str:
        return _QUOTED.sub(lambda match: f"{match[1]}{MASK}{match[1]}" if self._is_secret(match[2]) else match[0], text)

    def is_written(self, path: Path) -> bool:
        """Whether the file has this key; otherwise its value is the default."""
        return self._source.holds(path)

    def is_broken_below(self, path: Path) -> bool:
        """Whether the place, one that contains it or one inside it is broken."""
        return self.is_broken(path) or any(broken[: len(path)] == path for broken in self._broken)

    def is_broken(self, path: Path) -> bool:
        return bool(self._broken) and any(path[:length] in self._broken for length in range(len(path) + 1))

    def is_touched(self, path: Path) -> bool:
        """Whether the place is broken, or there is an error at it or inside it."""
        return path in self._touched or self.is_broken(path)

    def has_errors(self) -> bool:
        return bool(self._touched)


def nearest(word: str, words: Iterable[str]) -> str:
    """The most similar of the words; "" if none is similar."""
    matches = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return matches[0] if matches else ""
