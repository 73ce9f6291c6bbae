"""The process of one engine: loads it, and runs its step loop until its pipe is closed or `Stop` comes."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from io import FileIO

import msgspec

from engine.child import end_with_parent
from engine.core.adapter_loading import load_adapters
from engine.core.engine import Engine
from engine.core.loop import StepLoop, Stepping, Stop
from engine.errors import EngineError
from engine.frames import frame, read_frame
from engine.hosting.hosted_adapters import HostedAdapters
from engine.hosting.pipe_inbox import PipeInbox
from engine.hosting.wire import (
    HostAdapter,
    HostedEngine,
    HostLoaded,
    HostLoading,
    HostRefused,
    InstallAdapter,
    ReadAdapter,
    command_decoder,
)
from engine.lora.adapters import Adapter, WantedAdapter
from engine.messages import Command
from engine.sampling.grammar import CompiledGrammar, Grammar, Grammars
from engine.text.tokenizer import Tokenizer
from engine.threads import prepare_environment

Loader = Callable[[HostedEngine, Callable[[str], None]], tuple[Stepping, Tokenizer | None]]
"""Loads the engine, with the tokenizer for grammars if it generates text. Raises EngineError."""


def main() -> None:
    """Run an engine over standard input and output."""
    serve(_load, _import_all)


def serve(load: Loader, prepare: Callable[[], None] = lambda: None) -> None:
    """As `main`, with an engine that `load` makes: tests give it one without a model.

    `prepare` is called before it is known what to load.
    """
    # Ctrl-C, and a process manager that ends a whole group: running answers are ended by the gateway, not here.
    out = end_with_parent(signal.SIGINT, signal.SIGTERM)
    faulthandler.enable()
    # The gateway asks for the stacks of a process that hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    prepare_environment()
    prepare()
    hosted = read_frame(sys.stdin.buffer, HostedEngine)
    if hosted is None:
        return
    if hosted.niceness:
        os.nice(hosted.niceness)
    try:
        _run(hosted, load, out)
    except BrokenPipeError:
        # The gateway is gone.
        return


def _run(hosted: HostedEngine, load: Loader, out: FileIO) -> None:
    def post(message: msgspec.Struct) -> None:
        rest = memoryview(frame(message))
        while rest:
            rest = rest[out.write(rest) :]

    def progress(what: str) -> None:
        post(HostLoading(what))

    try:
        engine, tokenizer = load(hosted, progress)
        load_adapters(engine, hosted.adapters, progress, must=hosted.needs_adapters)
        loaded = HostLoaded(engine.limits, engine.stats(), tuple(map(_shown, engine.adapters)))
    except EngineError as error:
        post(HostRefused(error.message))
        return
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001  (a model directory can be broken in any way)
        post(HostRefused(f"{type(error).__name__}: {error}"))
        return
    post(loaded)
    StepLoop(engine, PipeInbox(sys.stdin.fileno(), _decoder(engine, tokenizer, post)), post).run()


def _decoder(
    engine: Stepping, tokenizer: Tokenizer | None, post: Callable[[msgspec.Struct], None]
) -> Callable[[bytes], Command | Stop | None]:
    """Decodes frames; what is not for the engine is carried out, and None."""
    decode, adapters = command_decoder(_compiler(tokenizer)), HostedAdapters(engine, post)

    def command_of(body: bytes) -> Command | Stop | None:
        match decode(body):
            case ReadAdapter() as command:
                adapters.read(command)
                return None
            case InstallAdapter() as command:
                return adapters.installed(command)
            case command:
                return command

    return command_of


def _shown(adapter: Adapter) -> HostAdapter:
    wanted, prepared = WantedAdapter(adapter.name, adapter.version, adapter.path), adapter.prepared
    return HostAdapter(wanted, prepared.digest, prepared.rank, prepared.memory_bytes)


def _compiler(tokenizer: Tokenizer | None) -> Callable[[Grammar], CompiledGrammar]:
    def compiled(_: Grammar) -> CompiledGrammar:
        raise EngineError("engine_failed", "a grammar was sent to an engine that generates no text")

    if tokenizer is None:
        return compiled
    grammars = Grammars(tokenizer)
    grammars.prepare()
    return grammars.compile


def _import_all() -> None:
    """What takes seconds: torch, and the compiler of the kernels."""
    from engine import torch_runner  # noqa: F401
    from engine.kernels.compiled import warm_up

    warm_up()


def _load(hosted: HostedEngine, progress: Callable[[str], None]) -> tuple[Stepping, Tokenizer | None]:
    from engine.load import load_engine

    if hosted.message:
        progress(hosted.message)
    engine = load_engine(hosted.settings, hosted.name, progress)
    return engine, Tokenizer.load(hosted.settings.model) if isinstance(engine, Engine) else None
