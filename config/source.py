"""Where the configuration comes from: read at the start, and again whenever somebody asks."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from config.load import LoadedConfig, files_of, load
from config.model.settings import Settings
from config.problems.errors import ConfigError


class ConfigSource:
    """A file or a folder, and what the command line says beside it."""

    def __init__(self, path: Path, finish: Callable[[Settings], Settings] = lambda settings: settings) -> None:
        """`finish` puts what the command line said over what was read; it may raise `ConfigError`, too."""
        self.path = path.absolute()
        self._finish = finish

    def read(self) -> LoadedConfig:
        """What is there now, checked; see `config.load.load`. Raises `ConfigError`."""
        return self.finished(load(self.path))

    @property
    def text_path(self) -> Path:
        """Where a text stands that is to be seen as if it were what is read."""
        return self.path / "body.toml" if self.path.is_dir() else self.path

    def finished(self, loaded: LoadedConfig) -> LoadedConfig:
        """With what the command line says. Raises `ConfigError`."""
        return msgspec.structs.replace(loaded, settings=self._finish(loaded.settings))

    def stamp(self, settings: Settings) -> str:
        """A hash of all that `settings` were, or could now be, read from: it changes if and only if a content does.

        Contents and not times are looked at: some file systems count seconds, and links that are swapped (as Kubernetes
        does with its mounts) keep the times of what they point at.
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
        """All that `settings` were read from; for a folder, also what has come since."""
        try:
            yield from files_of(self.path)
        except ConfigError:
            yield self.path  # a folder that is empty, or cannot be read
        for cascade in settings.cascades.values():
            if cascade.defer.calibration is not None:
                yield cascade.defer.calibration
