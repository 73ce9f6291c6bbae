"""Where the configuration comes from: read at the start, and again whenever somebody asks."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from config.errors import ConfigError
from config.load import files_of, load_settings, parse_settings
from config.settings import Settings


class ConfigSource:
    """A file or a folder, and what the command line says beside it."""

    def __init__(self, path: Path, finish: Callable[[Settings], Settings] = lambda settings: settings) -> None:
        """`finish` puts what the command line said over what was read; it may raise `ConfigError`, too."""
        self.path = path.absolute()
        self._finish = finish

    def load(self) -> Settings:
        """The checked settings. Raises `ConfigError`."""
        return self._finish(load_settings(self.path))

    def parse(self, text: str) -> Settings:
        """The settings that this text would be, if it were what is read. Raises `ConfigError`."""
        path = self.path / "body.toml" if self.path.is_dir() else self.path
        return self._finish(parse_settings(text, path))

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
