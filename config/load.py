"""Loads a TOML file, or a folder of them, into checked settings; reports all problems at once."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import msgspec

from config.binding import check_binding
from config.check.all_checks import check_settings
from config.check.model_files import check_model_files
from config.model.settings import Settings
from config.parse.decode import decode_settings
from config.parse.documents import Document, files_of, read_text, syntax_error
from config.parse.resolve import resolve
from config.problems.errors import ConfigError, Problem, in_order
from config.problems.problems import Problems
from config.problems.secrets import secret_texts
from config.problems.source_map import Position

__all__ = ["LoadedConfig", "check_binding", "files_of", "load", "load_settings", "parse", "parse_settings"]


class LoadedConfig(msgspec.Struct, frozen=True):
    """Valid settings, with warnings."""

    settings: Settings
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...]
    """The TOML files that were read, without the calibrations and models that they name."""


def load(
    path: Path, *, today: dt.date | None = None, with_models: bool = False, calibrated: bool = True
) -> LoadedConfig:
    """The checked settings of a file or a folder, with absolute paths. Raises `ConfigError`.

    `today`: warn about stale calibrations. `with_models`: check the models' files and compare their tokenizers.
    `calibrated=False`: do not read calibrations, because one is about to be made.
    """
    path = path.absolute()
    files = files_of(path)
    texts: list[tuple[Path, str]] = []
    faults: list[Problem] = []
    for file in files:
        try:
            texts.append((file, read_text(file)))
        except ConfigError as error:
            faults += error.problems
    if faults:
        try:
            Document(texts)
        except ConfigError as error:
            faults += error.problems
        raise ConfigError(faults)
    return _loaded(texts, path, today, with_models=with_models, calibrated=calibrated)


def load_settings(path: Path) -> Settings:
    """The settings without the warnings: see `load`."""
    return load(path).settings


def parse_settings(text: str, path: Path) -> Settings:
    """The settings in a text, as if it were in the file `path`. Raises `ConfigError`."""
    return parse(text, path).settings


def parse(text: str, path: Path) -> LoadedConfig:
    """The settings in a text, with warnings, as if it were in the file `path`. Raises `ConfigError`."""
    return _loaded([(path, text)], path, None)


def _loaded(
    texts: list[tuple[Path, str]],
    path: Path,
    today: dt.date | None,
    *,
    with_models: bool = False,
    calibrated: bool = True,
) -> LoadedConfig:
    try:
        settings, problems = _checked(texts, path, today, with_models=with_models, calibrated=calibrated)
    except RecursionError:
        raise syntax_error(path, "tables or lists are nested too deeply", Position(1, 1)) from None
    if problems.has_errors():
        raise ConfigError(problems)
    return LoadedConfig(settings, in_order(problems), tuple(file for file, _ in texts))


def _checked(
    texts: list[tuple[Path, str]], path: Path, today: dt.date | None, *, with_models: bool, calibrated: bool
) -> tuple[Settings, Problems]:
    document = Document(texts)
    problems = Problems(path, document, secret_texts(document.tables))
    document.report_clashes(problems)
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    settings = resolve(decode_settings(document.tables, problems), folder, problems, calibrated=calibrated)
    tokenizers: Mapping[str, str] | None = check_model_files(settings, problems) if with_models else None
    check_settings(settings, problems, today=today, tokenizers=tokenizers)
    if not problems.is_broken(("server", "host")):
        try:
            check_binding(settings, settings.server.host)
        except ConfigError as error:
            (problem,) = error.problems
            problems.add(("server", "host"), problem.message, expected=problem.expected)
    return settings, problems
