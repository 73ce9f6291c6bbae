"""The process of one engine: loads it, and runs its step loop until its pipe is closed or `Stop` comes."""

import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from io import FileIO

import msgspec

from engine.child import end_with_parent
from engine.core.engine import Engine
from engine.core.loop import StepLoop, Stepping
from engine.errors import EngineError
from engine.frames import frame, read_frame
from engine.hosting.pipe_inbox import PipeInbox
from engine.hosting.wire import HostedEngine, HostLoaded, HostLoading, HostRefused, command_decoder
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

    try:
        engine, tokenizer = load(hosted, lambda what: post(HostLoading(what)))
        loaded = HostLoaded(engine.limits, engine.stats())
    except EngineError as error:
        post(HostRefused(error.message))
        return
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001  (a model directory can be broken in any way)
        post(HostRefused(f"{type(error).__name__}: {error}"))
        return
    post(loaded)
    inbox = PipeInbox(sys.stdin.fileno(), command_decoder(_compiler(tokenizer)))
    StepLoop(engine, inbox, post).run()


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
