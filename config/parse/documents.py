"""Reads a configuration from one file, or from the `*.toml` files of a folder, which are merged into one document.

The files of a folder are read in the order of their names. Top-level tables are merged entry by entry; top-level lists
of tables (routes, keys, experiments, shadows, tests) are concatenated. An entry, such as one tenant, must be in one
file completely. Every file has the key `schema`, so that an editor can check it on its own. The keys file that one of
them names may be in the same folder: it is no part of the document.
"""

import tomllib
from collections.abc import Iterable
from pathlib import Path as FilePath

import msgspec

from config.problems.errors import ConfigError, Problem
from config.problems.source_map import Path, Position, SourceMap
from config.problems.toml_faults import toml_fault

_MAX_FILE_BYTES = 4 * 2**20
_SCHEMA = "schema"
_WHOLE_FILE = Position(0, 0)


class DocumentPart(msgspec.Struct, frozen=True):
    """One file."""

    file: FilePath
    tables: dict[str, object]
    source: SourceMap
    begins: dict[str, int]
    """By top-level list: the index in the merged list of this file's first member."""


class Document:
    """The merged document, with positions of keys and values as in `SourceMap`."""

    def __init__(self, texts: Iterable[tuple[FilePath, str]]) -> None:
        """Raises `ConfigError` with the syntax errors of all texts."""
        self.tables: dict[str, object] = {}
        self.clashes: list[tuple[Path, Position, str, str]] = []
        """Entries that are defined in two files: path, position, message and what is expected."""
        self._parts: list[DocumentPart] = []
        parts: list[DocumentPart] = []
        faults: list[Problem] = []
        for file, text in texts:
            try:
                parts.append(_parsed(file, text))
            except ConfigError as error:
                faults += error.problems
        if faults:
            raise ConfigError(faults)
        for part in parts:
            if not any(_is_keys_file(part.file, other) for other in parts if other is not part):
                self._join(part)
                self._parts.append(part)

    @property
    def files(self) -> tuple[FilePath, ...]:
        return tuple([part.file for part in self._parts])

    def key(self, path: Path) -> Position:
        part, local = self._part_of(path)
        return _in(part, part.source.key(local))

    def value(self, path: Path) -> Position:
        part, local = self._part_of(path)
        return _in(part, part.source.value(local))

    def holds(self, path: Path) -> bool:
        part, local = self._part_of(path)
        return part.source.holds(local)

    def _part_of(self, path: Path) -> tuple[DocumentPart, Path]:
        """The part that contains the path, or most of it, and the path within that part."""
        match path:
            case (str(table), int(index), *inner) if any(table in part.begins for part in self._parts):
                holders = [part for part in self._parts if part.begins.get(table, index + 1) <= index]
                part = holders[-1] if holders else self._parts[0]
                return part, (table, index - part.begins.get(table, 0), *inner)
        return max(self._parts, key=lambda part: part.source.depth(path)), path

    def _join(self, part: DocumentPart) -> None:
        if self._parts and _SCHEMA not in part.tables:
            self._clash(part, (_SCHEMA,), "the key 'schema' is missing", "schema = 1 in every file")
        for name, value in part.tables.items():
            match self.tables.get(name), value:
                case None, list():
                    part.begins[name] = 0
                    self.tables[name] = list(value)
                case None, dict():
                    self.tables[name] = dict(value)
                case None, _:
                    self.tables[name] = value
                case list() as present, list():
                    part.begins[name] = len(present)
                    present.extend(value)
                case dict() as present, dict():
                    for entry, inner in value.items():
                        if entry in present:
                            self._twice(part, (name, entry))
                        else:
                            present[entry] = inner
                case present, _ if name != _SCHEMA or present != value:
                    self._twice(part, (name,))

    def _twice(self, part: DocumentPart, path: Path) -> None:
        first = self.key(path)
        where = ".".join(map(str, path))
        self._clash(part, path, f"'{where}' is given by {first.file}:{first.line}, too", "it in one file as a whole")

    def _clash(self, part: DocumentPart, path: Path, message: str, expected: str) -> None:
        self.clashes.append((path, _in(part, part.source.key(path)), message, expected))


def files_of(path: FilePath) -> tuple[FilePath, ...]:
    """The files of a configuration: the file itself, or the `*.toml` files of the folder, sorted by name.

    Files whose names start with a dot, such as temporary files of editors, are ignored. Raises `ConfigError`.
    """
    if not path.is_dir():
        return (path,)
    try:
        files = sorted(file for file in path.iterdir() if file.suffix == ".toml" and not file.name.startswith("."))
    except OSError as error:
        raise file_error(path, f"cannot be read: {error.strerror or error}") from None
    if not files:
        raise file_error(path, "is a folder without a *.toml file")
    return tuple(files)


def read_text(path: FilePath) -> str:
    """Read a file of at most `_MAX_FILE_BYTES`. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise file_error(path, f"cannot be read: {error.strerror or error}") from None
    if len(raw) > _MAX_FILE_BYTES:
        raise file_error(path, f"is larger than {_MAX_FILE_BYTES // 2**20} MiB: that is no configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise file_error(path, "this is not UTF-8", Position(line, column)) from None


def file_error(path: FilePath, message: str, position: Position = _WHOLE_FILE, expected: str = "") -> ConfigError:
    """A `ConfigError` with a single problem."""
    line, column = position.line, position.column
    return ConfigError([Problem(file=path, line=line, column=column, message=message, expected=expected)])


def _parsed(file: FilePath, text: str) -> DocumentPart:
    try:
        tables = tomllib.loads(text)
        return DocumentPart(file, tables, SourceMap(text), {})
    except tomllib.TOMLDecodeError as error:
        message, expected, position = toml_fault(str(error), text)
        raise file_error(file, message, position, expected) from None
    except RecursionError:
        raise file_error(file, "tables or lists are nested too deeply", Position(1, 1)) from None


def _is_keys_file(file: FilePath, other: DocumentPart) -> bool:
    """If `other` names `file` as the one in which the admin API keeps keys."""
    match other.tables.get("admin"):
        case {"keys_file": str(name)}:
            return (other.file.parent / name).resolve() == file.resolve()
    return False


def _in(part: DocumentPart, position: Position) -> Position:
    return Position(position.line, position.column, part.file)
