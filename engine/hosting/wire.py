"""The messages between an engine's process and the gateway: commands in, reports out, over two pipes.

They are those that pass between threads, with two differences. A grammar goes as its source, and is compiled again in
the process. Adapters do not pass: such an engine serves none.
"""

import sys
from collections.abc import Callable
from typing import Any

import msgspec

from config.model.settings import EngineSettings
from engine.core.limits import EngineLimits
from engine.core.loop import Stop
from engine.frames import frame
from engine.messages import Abort, Command, Embed, EngineFailed, EngineStats, ExpectTokens, StepReport, Submit
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


class HostLoading(msgspec.Struct, frozen=True, tag=True):
    """A step of loading has begun."""

    what: str


class HostLoaded(msgspec.Struct, frozen=True, tag=True):
    """The engine takes commands."""

    limits: EngineLimits
    stats: EngineStats


class HostRefused(msgspec.Struct, frozen=True, tag=True):
    """The model cannot be loaded; the process ends."""

    message: str


HostReport = HostLoading | HostLoaded | HostRefused | StepReport | EngineFailed
"""A StepReport or EngineFailed comes after HostLoaded only."""
_Sent = Submit | Abort | ExpectTokens | Embed | Stop


def encode_command(command: Command | Stop) -> bytes:
    """A frame. Raises TypeError for one that does not pass between processes."""
    if not isinstance(command, _Sent):
        raise TypeError(f"{type(command).__name__} does not pass between processes")
    return frame(command, _source)


def command_decoder(compiled: Callable[[Grammar], CompiledGrammar]) -> Callable[[bytes], Command | Stop]:
    """Decodes what `encode_command` has framed. `compiled`: compiles a grammar for the engine's tokenizer."""

    def hook(kind: type, value: Any) -> Any:
        return compiled(msgspec.convert(value, Grammar)) if kind is CompiledGrammar else kind(value)

    decode: Callable[[bytes], Command | Stop] = msgspec.msgpack.Decoder(_Sent, dec_hook=hook).decode
    return decode


decode_report: Callable[[bytes], HostReport] = msgspec.msgpack.Decoder(HostReport).decode


def _source(value: Any) -> Any:
    if isinstance(value, CompiledGrammar):
        return value.grammar
    raise NotImplementedError
