"""Process of one tensor-parallel rank: runs its part of every forward pass until its pipe is closed.

It ends with the engine's thread that started it, in whatever way that ends: the pipe is closed, and on Linux the kernel
kills the process even within a step.
"""

import signal
import sys
from typing import BinaryIO

from engine.child import end_with_parent
from engine.errors import EngineError
from engine.frames import frame, read_frame
from engine.tensor_parallel.wire import Setup, Step, WorkerFailed, WorkerLoaded
from engine.threads import prepare_environment
from engine.weights.shard import Shard, ShardExchange

COMMAND = (sys.executable, "-P", "-c", "import engine.tensor_parallel.worker; engine.tensor_parallel.worker.main()")


def main() -> None:
    """Run one rank over standard input and output."""
    # Ctrl-C reaches all processes of the terminal; this one ends on rank 0's command only.
    out = end_with_parent(signal.SIGINT)
    setup = read_frame(sys.stdin.buffer, Setup)
    if setup is not None:
        prepare_environment()
        _serve(setup, sys.stdin.buffer, out)


def _serve(setup: Setup, steps: BinaryIO, out: BinaryIO) -> None:
    import torch

    from engine.tensor_parallel.group import join_group
    from engine.torch_runner import TorchRunner

    settings = setup.settings

    def connect(blocks: int) -> ShardExchange:
        out.write(frame(WorkerLoaded(blocks)))
        return join_group(setup.store, setup.rank, setup.ranks, torch.device(settings.device), float(settings.stall))

    shard = Shard(setup.rank, setup.ranks, connect)
    try:
        runner = TorchRunner(settings, lambda _: None, shard)
    except EngineError as error:
        out.write(frame(WorkerFailed(error.code, error.message)))
        return
    except Exception as error:  # noqa: BLE001  (rank 0 is to say what it was)
        out.write(frame(WorkerFailed("engine_failed", f"{type(error).__name__}: {error}")))
        return
    while (step := read_frame(steps, Step)) is not None:
        runner.follow(step.batch())
    shard.disconnect()
