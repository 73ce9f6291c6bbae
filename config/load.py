"""Loads a TOML file, or a folder of them, into checked settings; reports all problems at once."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import msgspec

from config.check.all_checks import check_settings
from config.check.engines import check_model_files
from config.check.server import check_admin_binding, check_binding
from config.model.calibration import BadCalibration, read_calibration
from config.model.routing import CascadeSettings
from config.model.settings import AdminSettings, EngineSettings, Settings
from config.model.tenancy import StoredKeys
from config.model.upstreams import UpstreamSettings
from config.parse.decode import decode_settings
from config.parse.documents import Document, file_error, files_of, read_text
from config.parse.keys_file import BadKeysFile, read_keys_file
from config.problems.errors import ConfigError, Problem, in_order
from config.problems.problems import Problems
from config.problems.secrets import secret_texts
from config.problems.source_map import Position

__all__ = [
    "LoadedConfig",
    "check_admin_binding",
    "check_binding",
    "files_of",
    "load",
    "load_settings",
    "parse",
    "parse_settings",
]


class LoadedConfig(msgspec.Struct, frozen=True):
    """Valid settings, with warnings."""

    settings: Settings
    warnings: tuple[Problem, ...]
    files: tuple[Path, ...]
    """The TOML files that were read, without the calibrations and models that they name."""


MadeBy = Callable[[EngineSettings], str | None]
"""What an engine's model makes: "text", "embeddings" or "scores"; None if its files cannot be read."""


def load(
    path: Path, *, today: dt.date | None = None, made_by: MadeBy | None = None, calibrated: bool = True
) -> LoadedConfig:
    """The checked settings of a file or a folder, with absolute paths. Raises `ConfigError`.

    `today`: warn about stale calibrations. `made_by`: check the models' files, too, compare their tokenizers and what
    they make.
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
    return _loaded(texts, path, today, made_by=made_by, calibrated=calibrated)


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
    made_by: MadeBy | None = None,
    calibrated: bool = True,
) -> LoadedConfig:
    try:
        document = Document(texts)
        problems = Problems(path, document, secret_texts(document.tables))
        for clash, position, message, expected in document.clashes:
            problems.add(clash, message, expected=expected, position=position)
        folder = path.absolute() if path.is_dir() else path.absolute().parent
        settings = _resolved(decode_settings(document.tables, problems), folder, problems, calibrated=calibrated)
        if made_by is None:
            check_settings(settings, problems, today=today)
        else:
            tokenizers = check_model_files(settings, problems)
            makes = {name: made for name, engine in settings.engines.items() if (made := made_by(engine)) is not None}
            check_settings(settings, problems, today=today, tokenizers=tokenizers, makes=makes)
    except RecursionError:
        raise file_error(path, "tables or lists are nested too deeply", Position(1, 1)) from None
    if problems.has_errors():
        raise ConfigError(problems)
    return LoadedConfig(settings, in_order(problems), document.files)


def _resolved(settings: Settings, folder: Path, problems: Problems, *, calibrated: bool) -> Settings:
    """Settings with absolute paths, the keys file and, if `calibrated`, calibrations; unreadable ones are reported."""
    return msgspec.structs.replace(
        settings,
        admin=_admin(settings.admin, folder, problems),
        engines={name: _engine(engine, folder) for name, engine in settings.engines.items()},
        upstreams={name: _upstream(upstream, folder) for name, upstream in settings.upstreams.items()},
        cascades={name: _cascade(name, cascade, folder, problems) for name, cascade in settings.cascades.items()}
        if calibrated
        else settings.cascades,
    )


def _admin(admin: AdminSettings, folder: Path, problems: Problems) -> AdminSettings:
    if admin.keys_file is None:
        return admin
    path = (folder / admin.keys_file).resolve()
    stored = StoredKeys()
    try:
        stored = read_keys_file(path)
    except BadKeysFile as error:
        problems.add(("admin", "keys_file"), str(error), breaks=True)
    return msgspec.structs.replace(admin, keys_file=path, stored=stored)


def _engine(engine: EngineSettings, folder: Path) -> EngineSettings:
    adapters = {
        name: msgspec.structs.replace(adapter, path=(folder / adapter.path).resolve())
        for name, adapter in engine.adapters.items()
    }
    return msgspec.structs.replace(engine, model=(folder / engine.model).resolve(), adapters=adapters)


def _upstream(upstream: UpstreamSettings, folder: Path) -> UpstreamSettings:
    if upstream.key is None or upstream.key.file is None:
        return upstream
    key = msgspec.structs.replace(upstream.key, file=(folder / upstream.key.file).resolve())
    return msgspec.structs.replace(upstream, key=key)


def _cascade(name: str, cascade: CascadeSettings, folder: Path, problems: Problems) -> CascadeSettings:
    if cascade.defer.calibration is None:
        return cascade
    path = (folder / cascade.defer.calibration).resolve()
    artefact = None
    try:
        artefact = read_calibration(path)
    except BadCalibration as error:
        problems.add(("cascades", name, "defer", "calibration"), str(error), breaks=True)
    defer = msgspec.structs.replace(cascade.defer, calibration=path, artefact=artefact)
    return msgspec.structs.replace(cascade, defer=defer)
