"""What tests run in place of an engine's process: an engine without a model, and faults that only a process has."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from engine.core.engine import Engine
from engine.core.loop import Stepping
from engine.errors import EngineError
from engine.hosting.process import serve
from engine.hosting.wire import HostedEngine
from engine.testing.fake_runner import FakeRunner
from engine.text.tokenizer import Tokenizer
from tests.engine.tiny_tokenizers import byte_level_tokenizer

POISON = 77
COMMAND = (sys.executable, "-c", "import tests.engine.hosting.child as child; child.main()")
"""In the folder of the repository. The fault is the message of the first frame."""


def runner(fault: str = "") -> FakeRunner:
    def on_step(_: int, batch) -> None:
        if fault == "poison" and POISON in batch.token_ids:
            os._exit(9)

    return FakeRunner(on_step=on_step)


def _reports() -> int:
    """The descriptor of what was standard output."""
    own = {int(each.name): each for each in Path("/proc/self/fd").iterdir()}
    return next(number for number, each in own.items() if number > 2 and "pipe:" in str(each.readlink()))


def main() -> None:
    serve(load)


def load(hosted: HostedEngine, progress: Callable[[str], None]) -> tuple[Stepping, Tokenizer]:
    progress("waking up")
    sys.stdout.write("libraries print what they like\n")
    sys.stdout.flush()
    match hosted.message:
        case "ends while loading":
            os._exit(3)
        case "refuses":
            raise EngineError("model_broken", "it is broken")
        case "raises":
            raise OSError("no such file")
        case "garbage":
            # Where the gateway reads, whatever its number is.
            os.write(_reports(), b"\xff" * 16)
    tokenizer = byte_level_tokenizer()
    return Engine(runner(hosted.message), tokenizer, hosted.settings, name=hosted.name, seed=7), tokenizer
