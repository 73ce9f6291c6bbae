"""Adapters in an engine's own process: read when the gateway asks, and known to it by numbers.

They are read between two steps, in the only thread: the engine's steps wait for it.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.core.loop import Stepping
from engine.errors import EngineError
from engine.hosting.wire import HostAdapterRead, InstallAdapter, ReadAdapter
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import AddAdapter

_MOST = 8
"""Adapters that are read and not installed; the gateway installs what it has read, unless something came between."""


class HostedAdapters:
    """What was read and is not installed yet."""

    def __init__(self, engine: Stepping, post: Callable[[msgspec.Struct], None]) -> None:
        self._engine = engine
        self._post = post
        self._read: OrderedDict[int, PreparedAdapter] = OrderedDict()

    def read(self, command: ReadAdapter) -> None:
        """Post what was read, or why it cannot be."""
        try:
            prepared = self._engine.read_adapter(Path(command.folder))
        except EngineError as error:
            self._post(HostAdapterRead(command.number, code=error.code, message=error.message))
            return
        self._read[command.number] = prepared
        while len(self._read) > _MOST:
            self._read.popitem(last=False)
        self._post(HostAdapterRead(command.number, prepared.digest, prepared.rank, prepared.memory_bytes))

    def installed(self, command: InstallAdapter) -> AddAdapter | None:
        """The engine's command. None: it was read too long ago; sequences that name it are refused."""
        prepared = self._read.pop(command.number, None)
        if prepared is None:
            return None
        return AddAdapter(Adapter(command.name, command.version, Path(command.path), prepared))
