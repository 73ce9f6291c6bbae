"""The list on which everything that finds fault writes."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath

from config.errors import Problem
from config.source_map import Path, SourceMap, show_path


class Problems:
    """Collects problems of one file.

    A place whose value could not be understood is `broken`: what follows from it is not reported again.
    """

    def __init__(self, file: FilePath, source: SourceMap) -> None:
        self._file = file
        self._source = source
        self._found: list[Problem] = []
        self._broken: set[Path] = set()
        self.paths: list[Path] = []
        """Of everything reported so far."""

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
    ) -> None:
        """Report at a value (or at its key), unless the place is broken already."""
        if self.is_broken(path):
            return
        self.paths.append(path)
        position = self._source.key(path) if at_key else self._source.value(path)
        self._found.append(
            Problem(
                file=self._file,
                line=position.line,
                column=position.column,
                where=show_path(path),
                message=message,
                expected=expected,
                suggestion=suggestion,
            )
        )
        if breaks:
            self._broken.add(path)

    def unknown_name(self, path: Path, kind: str, name: str, known: Iterable[str]) -> None:
        """A name that should be one of those that the file defines elsewhere."""
        names = sorted(known)
        self.add(
            path,
            f"there is no {kind} '{name}'",
            expected=f"one of: {', '.join(names)}" if names else f"a {kind}, but the file defines none",
            suggestion=nearest(name, names),
        )

    def is_broken(self, path: Path) -> bool:
        """Whether the place, or one around it, could not be understood."""
        return any(path[:length] in self._broken for length in range(len(path) + 1))


def nearest(word: str, words: Iterable[str]) -> str:
    """The most similar one, or "" if none comes near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else ""
