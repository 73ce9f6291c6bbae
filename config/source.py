"""The source of the configuration: a path that is read at the start and again at every reload."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from config.load import LoadedConfig, files_of, load
from config.model.settings import Settings
from config.problems.errors import ConfigError


class ConfigSource:
    """A file or folder, with the options of the command line applied to it."""

    def __init__(self, path: Path, finish: Callable[[Settings], Settings] = lambda settings: settings) -> None:
        """`finish` applies the options of the command line; it may raise `ConfigError`."""
        self.path = path.absolute()
        self._finish = finish

    def read(self) -> LoadedConfig:
        """Load and check the configuration: see `config.load.load`. Raises `ConfigError`."""
        return self.finished(load(self.path))

    @property
    def text_path(self) -> Path:
        """The path to pass to `config.load.parse` for a text that would replace the configuration."""
        return self.path / "body.toml" if self.path.is_dir() else self.path

    def finished(self, loaded: LoadedConfig) -> LoadedConfig:
        """Apply the options of the command line. Raises `ConfigError`."""
        return msgspec.structs.replace(loaded, settings=self._finish(loaded.settings))

    def stamp(self, settings: Settings) -> str:
        """A hash of the contents of all files that `settings` are read from; it changes if and only if a file does.

        Modification times are not reliable: some file systems store seconds only, and a symbolic link that is replaced
        (as Kubernetes does with mounted configuration) may point to an older file.
        """
        state = hashlib.sha256()
        for file in self.files(settings):
            try:
                content = file.read_bytes()
            except OSError as error:
                content = str(error.errno).encode()
            state.update(b"%b\0%d\0" % (str(file).encode(), len(content)))
            state.update(content)
        return state.hexdigest()

    def files(self, settings: Settings) -> Iterator[Path]:
        """The files of the configuration as they are now, and the keys file and calibrations that `settings` name."""
        try:
            files = files_of(self.path)
        except ConfigError:
            files = (self.path,)  # an empty or unreadable folder
        yield from files
        keys_file = settings.admin.keys_file
        if keys_file is not None and keys_file not in [file.resolve() for file in files]:
            yield keys_file
        for cascade in settings.cascades.values():
            if cascade.defer.calibration is not None:
                yield cascade.defer.calibration
