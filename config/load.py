"""From a TOML file to checked settings, or to all of its problems at once."""

import re
import tomllib
from pathlib import Path

from config.binding import check_binding
from config.check.whole import check_settings
from config.decode import decode_settings
from config.errors import ConfigError, Problem
from config.problems import Problems
from config.resolve import resolve
from config.settings import Settings
from config.source_map import Position, SourceMap

__all__ = ["check_binding", "load_settings", "parse_settings"]

_LARGEST_FILE = 4 * 2**20
_TOML_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def load_settings(path: Path) -> Settings:
    """The checked settings of a file; models' paths absolute. Raises `ConfigError`."""
    path = path.absolute()
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise _whole_file(path, f"cannot be read: {error.strerror or error}") from None
    if len(raw) > _LARGEST_FILE:
        raise _whole_file(path, f"is larger than {_LARGEST_FILE // 2**20} MiB: that is no configuration")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise _syntax(path, "this is not UTF-8", Position(line, column)) from None
    return parse_settings(text, path)


def parse_settings(text: str, path: Path) -> Settings:
    """The same for a text that was, or could be, in the file `path`: relative paths count from its folder."""
    try:
        settings = _parse(text, path)
    except tomllib.TOMLDecodeError as error:
        message, position = _toml_problem(str(error), text)
        raise _syntax(path, message, position) from None
    except RecursionError:
        raise _syntax(path, "tables or lists are nested too deeply", Position(1, 1)) from None
    return settings


def _parse(text: str, path: Path) -> Settings:
    document = tomllib.loads(text)
    source = SourceMap(text)
    problems = Problems(path, source)
    settings = resolve(decode_settings(document, problems), path.absolute().parent, problems)
    check_settings(settings, problems)
    try:
        if not problems.is_broken(("server", "host")):
            place = source.value(("server", "host"))
            check_binding(settings, settings.server.host, file=path, line=place.line, column=place.column)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems.has_errors():
        raise ConfigError(problems)
    return settings


def _toml_problem(message: str, text: str) -> tuple[str, Position]:
    found = _TOML_PLACE.search(message)
    lines = text.split("\n")
    position = Position(len(lines), len(lines[-1]) + 1)
    if found is not None:
        message = message[: found.start()]
        if found.group(1):
            position = Position(int(found.group(1)), int(found.group(2)))
    return f"this is not TOML: {message[:1].lower()}{message[1:]}", position


def _syntax(path: Path, message: str, position: Position) -> ConfigError:
    return ConfigError([Problem(file=path, line=position.line, column=position.column, where="", message=message)])


def _whole_file(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(file=path, line=0, column=0, where="", message=message)])
