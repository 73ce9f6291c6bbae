"""The process that reads a configuration, so that a large one delays no answer."""

from pathlib import Path
from typing import Protocol

from actors.kernel.workers import WorkerPool
from config.load import LoadedConfig


class ConfigProcess(WorkerPool, Protocol):
    """Starts the process that reads a configuration."""

    async def read_config(self, path: Path, text: str | None = None) -> LoadedConfig:
        """Read and check a configuration, or the text that `path` could hold. Raises ConfigError."""
        ...
