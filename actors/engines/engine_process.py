"""An engine in a process of its own: the same commands and posts as an engine's thread has."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import trio

from actors.engines.engine_thread import EngineLoaded, EngineLoading, EnginePost, EngineProgram, LoadFailed
from actors.kernel.actor import Reply
from actors.kernel.process_bridge import ProcessBridge
from actors.kernel.spare_processes import SpareProcesses
from actors.kernel.thread_bridge import NICE
from engine.core.loop import Stop
from engine.errors import ModelError
from engine.frames import frame
from engine.hosting.wire import (
    HostAdapter,
    HostAdapterRead,
    HostLoaded,
    HostLoading,
    HostRefused,
    ReadAdapter,
    decode_report,
    encode_command,
)
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import Command, EngineFailed

_READ_S = 120.0
"""For a folder; the process reads it between two steps."""


def start_engine_process(
    name: str, program: EngineProgram, on_posts: Callable[[list[EnginePost]], None], spares: SpareProcesses
) -> ProcessBridge[Command | ReadAdapter | Stop, EnginePost | HostAdapterRead]:
    """Called in the event loop."""
    loaded = False
    reader = _AdapterReader(name)

    def decode(body: bytes) -> EnginePost | HostAdapterRead:
        nonlocal loaded
        match decode_report(body):
            case HostLoading(what):
                return EngineLoading(what)
            case HostLoaded(limits, stats, adapters):
                loaded = True
                if program.hosted.settings.spare:
                    spares.keep(program.command)
                return EngineLoaded(limits, stats, tuple(map(_known, adapters)), reader.read_adapter)
            case HostRefused(message):
                return LoadFailed(message)
            case report:
                return report

    def lost(how: str) -> EnginePost:
        if loaded:
            return EngineFailed("engine_process_lost", f"the process of engine {name} {how}")
        return LoadFailed(f"its process {how} while it was loading")

    def take(posts: list[EnginePost | HostAdapterRead]) -> None:
        others: list[EnginePost] = []
        for post in posts:
            if isinstance(post, HostAdapterRead):
                reader.done(post)
            else:
                others.append(post)
                if isinstance(post, EngineFailed):
                    reader.lost(post)
        if others:
            on_posts(others)

    hosted = msgspec.structs.replace(program.hosted, niceness=NICE)
    bridge: ProcessBridge[Command | ReadAdapter | Stop, EnginePost | HostAdapterRead] = ProcessBridge(
        f"engine {name}",
        spares.take(program.command),
        frame(hosted),
        encode=encode_command,
        decode=decode,
        lost=lost,
        on_posts=take,
    )
    reader.send = bridge.send
    return bridge


class _AdapterReader:
    """Asks the process to read adapters."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = count(1)
        self._asked: dict[int, Reply[HostAdapterRead]] = {}
        self.send: Callable[[ReadAdapter], None]
        """Set when there is a process."""

    def read_adapter(self, folder: Path) -> PreparedAdapter:
        """Called in a worker thread of the event loop. Raises ModelError."""
        return trio.from_thread.run(self._read, folder)

    def done(self, read: HostAdapterRead) -> None:
        reply = self._asked.pop(read.number, None)
        if reply is not None:
            reply.set(read)

    def lost(self, failed: EngineFailed) -> None:
        for number in list(self._asked):
            self.done(HostAdapterRead(number, code=failed.code, message=failed.message))

    async def _read(self, folder: Path) -> PreparedAdapter:
        number = next(self._numbers)
        reply = self._asked[number] = Reply[HostAdapterRead]()
        self.send(ReadAdapter(number, str(folder)))
        read = None
        with trio.move_on_after(_READ_S):
            read = await reply.wait()
        self._asked.pop(number, None)
        if read is None:
            raise ModelError("adapter_not_read", f"{folder}: the engine {self._name} did not read it in time")
        if read.code:
            raise ModelError(read.code, read.message)
        return PreparedAdapter(read.digest, read.rank, read.memory_bytes, numbers=number)


def _known(adapter: HostAdapter) -> Adapter:
    wanted = adapter.wanted
    prepared = PreparedAdapter(adapter.digest, adapter.rank, adapter.memory_bytes)
    return Adapter(wanted.name, wanted.version, wanted.path, prepared)
