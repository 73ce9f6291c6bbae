"""The messages between an engine's process and the gateway: commands in, reports out, over two pipes.

They are those that pass between threads, with two differences. A grammar goes as its source, and is compiled again in
the process. The tensors of an adapter stay there: it is read on request, and installed by the number of its reading.
"""

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from config.model.settings import EngineSettings
from engine.core.limits import EngineLimits
from engine.core.loop import Stop
from engine.frames import frame
from engine.lora.adapters import WantedAdapter
from engine.messages import (
    Abort,
    AddAdapter,
    Command,
    DropAdapter,
    Embed,
    EngineFailed,
    EngineStats,
    ExpectTokens,
    StepReport,
    Submit,
    Weigh,
)
from engine.sampling.grammar import CompiledGrammar, Grammar

COMMAND = (sys.executable, "-P", "-c", "import engine.hosting.process; engine.hosting.process.main()")


class HostedEngine(msgspec.Struct, frozen=True):
    """The first message: what to load. All "auto" are resolved."""

    settings: EngineSettings
    name: str
    niceness: int = 0
    """How much nicer than the gateway it is."""
    message: str = ""
    """How its KV pool was sized."""
    adapters: tuple[WantedAdapter, ...] = ()
    needs_adapters: bool = False
    """One that cannot be read is a reason not to begin; otherwise it is left out."""


class HostLoading(msgspec.Struct, frozen=True, tag=True):
    """A step of loading has begun."""

    what: str


class HostAdapter(msgspec.Struct, frozen=True):
    """An adapter that was loaded at the beginning."""

    wanted: WantedAdapter
    digest: bytes
    rank: int
    memory_bytes: int


class HostLoaded(msgspec.Struct, frozen=True, tag=True):
    """The engine takes commands."""

    limits: EngineLimits
    stats: EngineStats
    adapters: tuple[HostAdapter, ...] = ()


class HostRefused(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be loaded; the process ends."""

    message: str


class HostAdapterRead(msgspec.Struct, frozen=True, tag=True):
    """What became of a `ReadAdapter`: see `PreparedAdapter`."""

    number: int
    digest: bytes = b""
    rank: int = 0
    memory_bytes: int = 0
    code: str = ""
    """It cannot be served, and `message` says why; empty: it can."""
    message: str = ""


class ReadAdapter(msgspec.Struct, frozen=True, tag=True):
    """Read the folder; `HostAdapterRead` follows."""

    number: int
    folder: str


class InstallAdapter(msgspec.Struct, frozen=True, tag=True):
    """`AddAdapter` of what was read under this number."""

    name: str
    version: int
    path: str
    number: int


HostReport = HostLoading | HostLoaded | HostRefused | StepReport | EngineFailed | HostAdapterRead
"""All but the first and the third come after HostLoaded only."""
HostCommand = Submit | Abort | ExpectTokens | Embed | Weigh | DropAdapter | ReadAdapter | InstallAdapter | Stop


def encode_command(command: Command | ReadAdapter | Stop) -> bytes:
    """A frame. The `numbers` of an adapter that is added are the number of its reading."""
    if isinstance(command, AddAdapter):
        adapter = command.adapter
        return frame(InstallAdapter(adapter.name, adapter.version, str(adapter.path), adapter.prepared.numbers))
    return frame(command, _source)


def command_decoder(compiled: Callable[[Grammar], CompiledGrammar]) -> Callable[[bytes], HostCommand]:
    """Decodes what `encode_command` has framed. `compiled`: compiles a grammar for the engine's tokenizer."""

    def hook(kind: type, value: Any) -> Any:
        return compiled(msgspec.convert(value, Grammar)) if kind is CompiledGrammar else kind(value)

    decode: Callable[[bytes], HostCommand] = msgspec.msgpack.Decoder(HostCommand, dec_hook=hook).decode
    return decode


decode_report: Callable[[bytes], HostReport] = msgspec.msgpack.Decoder(
    HostReport, dec_hook=lambda kind, value: kind(value)
).decode


def _source(value: Any) -> Any:
    if isinstance(value, CompiledGrammar):
        return value.grammar
    raise NotImplementedError
