"""An engine in a process of its own: the same commands and posts as an engine's thread has."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from actors.engines.engine_thread import EngineLoaded, EngineLoading, EnginePost, EngineProgram, LoadFailed
from actors.kernel.process_bridge import ProcessBridge
from actors.kernel.spare_processes import SpareProcesses
from actors.kernel.thread_bridge import NICE
from engine.core.loop import Stop
from engine.errors import ModelError
from engine.frames import frame
from engine.hosting.wire import (
    HostLoaded,
    HostLoading,
    HostRefused,
    decode_report,
    encode_command,
)
from engine.lora.adapters import PreparedAdapter
from engine.messages import Command, EngineFailed


def start_engine_process(
    name: str, program: EngineProgram, on_posts: Callable[[list[EnginePost]], None], spares: SpareProcesses
) -> ProcessBridge[Command | Stop, EnginePost]:
    """Called in the event loop."""
    loaded = False

    def decode(body: bytes) -> EnginePost:
        nonlocal loaded
        match decode_report(body):
            case HostLoading(what):
                return EngineLoading(what)
            case HostLoaded(limits, stats):
                loaded = True
                if program.hosted.settings.spare:
                    spares.keep(program.command)
                return EngineLoaded(limits, stats, (), _read_adapter)
            case HostRefused(message):
                return LoadFailed(message)
            case report:
                return report

    def lost(how: str) -> EnginePost:
        if loaded:
            return EngineFailed("engine_process_lost", f"the process of engine {name} {how}")
        return LoadFailed(f"its process {how} while it was loading")

    hosted = msgspec.structs.replace(program.hosted, niceness=NICE)
    return ProcessBridge(
        f"engine {name}",
        spares.take(program.command),
        frame(hosted),
        encode=encode_command,
        decode=decode,
        lost=lost,
        on_posts=on_posts,
    )


def _read_adapter(folder: Path) -> PreparedAdapter:
    raise ModelError(
        "adapter_unsupported", f'{folder}: adapters are not served by an engine with host = "process"; use "thread"'
    )
