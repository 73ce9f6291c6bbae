"""The list on which everything that finds fault writes."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path as FilePath
from typing import Protocol

import msgspec

from config.problems.errors import Problem, Severity
from config.problems.secrets import MASK, is_secret_step, looks_secret
from config.problems.source_map import Path, Position, show_path

_LISTED = 40
"""Names that a message lists; of more it gives the number."""
_LISTED_LINES = 8
_QUOTED = re.compile(r"""(["'])(.+?)\1""")
_COMPARISONS = 100_000
"""Of words that might have been meant, for one file: a quarter of a second."""


class Places(Protocol):
    """Where keys and values are written: `SourceMap`, or `config.parse.documents.Document` for several files."""

    def key(self, path: Path) -> Position:
        """Of the key."""
        ...

    def value(self, path: Path) -> Position:
        """Of the value."""
        ...


class Problems:
    """Collects problems of one file.

    A place whose value could not be understood is `broken`: what follows from it is not reported again.
    """

    def __init__(self, file: FilePath, source: Places, secrets: Collection[str] = ()) -> None:
        """`secrets` are texts that no problem repeats."""
        self._secrets = secrets
        self._unknown: dict[tuple[str, str], int | None] = {}
        """Where its problem is in `_found`; None: there is none, for its place is broken already."""
        self._again_on: dict[int, list[str]] = {}
        self._file = file
        self._source = source
        self._found: list[Problem] = []
        self._broken: set[Path] = set()
        self._around_broken: set[Path] = set()
        """Tables and lists with something broken in them: what is said of the whole would follow from that."""
        self._touched: set[Path] = set()
        """Places of errors, and all places around them."""
        self._comparisons = _COMPARISONS

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

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
        """Report at a value (or at its key, or elsewhere), unless the place is broken already."""
        if self.is_broken(path) or (len(path) > 1 and path in self._around_broken):
            return
        if severity == "error":
            self._touched.update(path[:length] for length in range(len(path) + 1))
        if position is None:
            position = self._source.key(path) if at_key else self._source.value(path)
        self._found.append(
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

    def warn(self, path: Path, message: str, *, expected: str = "", suggestion: str = "", at_key: bool = False) -> None:
        """The same for what is probably not meant."""
        self.add(path, message, expected=expected, suggestion=suggestion, at_key=at_key, severity="warning")

    def nearest(self, word: str, words: Collection[str]) -> str:
        """The most similar one; "" also when looking for so many has taken long enough."""
        if len(words) > self._comparisons:
            return ""
        self._comparisons -= len(words)
        return nearest(word, words)

    def unknown_name(self, path: Path, kind: str, name: str, known: Iterable[str], *, at_key: bool = False) -> None:
        """A name that should be one of those that the file defines elsewhere."""
        if self.is_broken(path):
            return
        place = ("rung" if "engine" in kind else kind, name)
        number = self._unknown.get(place)
        if number is not None:
            self._again(number, path)
            return
        number = len(self._found)
        names = list(known)
        expected = f"a {kind}, but the file defines none"
        if len(names) > _LISTED:
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
        self._unknown[place] = number if len(self._found) > number else None

    def is_unknown(self, name: str) -> bool:
        """Whether it was reported that there is nothing of this name."""
        return any(known == name for _, known in self._unknown)

    def _again(self, number: int, path: Path) -> None:
        """The same unknown name once more: one cause, one error."""
        self._touched.update(path[:length] for length in range(len(path) + 1))
        first, place = self._found[number], self._source.value(path)
        lines = self._again_on.setdefault(number, [])
        elsewhere = place.file is not None and place.file != first.file
        lines.append(f"{place.file.name}:{place.line}" if elsewhere and place.file else str(place.line))
        if len(lines) <= _LISTED_LINES:
            word = "line" if len(lines) == 1 else "lines"
            also = f" (also on {word} {', '.join(lines)}{', ...' if len(lines) == _LISTED_LINES else ''})"
            message = first.message.partition(" (also on ")[0] + also
            self._found[number] = msgspec.structs.replace(first, message=message)

    def _is_secret(self, text: str) -> bool:
        return bool(text) and (text in self._secrets or looks_secret(text))

    def _safe(self, text: str) -> str:
        """Without what is quoted in it and is a secret."""
        return _QUOTED.sub(lambda found: f"{found[1]}{MASK}{found[1]}" if self._is_secret(found[2]) else found[0], text)

    def is_broken_below(self, path: Path) -> bool:
        """Whether the place, or one inside it, could not be understood."""
        return self.is_broken(path) or any(broken[: len(path)] == path for broken in self._broken)

    def is_broken(self, path: Path) -> bool:
        """Whether the place, or one around it, could not be understood."""
        return bool(self._broken) and any(path[:length] in self._broken for length in range(len(path) + 1))

    def is_touched(self, path: Path) -> bool:
        """Whether there is an error at the place or in it, or it could not be understood."""
        return path in self._touched or self.is_broken(path)

    def has_errors(self) -> bool:
        """Whether there is more than warnings."""
        return bool(self._touched)


def nearest(word: str, words: Iterable[str]) -> str:
    """The most similar one, or "" if none comes near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else ""
