"""A `Runner` over several tensor-parallel ranks: rank 0 in this process, the others in processes of their own.

Every rank runs the same forward passes with its part of the weights (see engine/weights/shard.py); scheduler, KV block
management and sampler exist on rank 0 only.
"""

import os
import selectors
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import BinaryIO, TypeVar, cast

import numpy as np
import torch

from config.model.settings import EngineSettings
from engine.errors import EngineError, ModelError
from engine.frames import frame, read_frame
from engine.lora.adapters import PreparedAdapter
from engine.memory.resources import resolve_alone
from engine.scheduling.batch import Batch, Sampled
from engine.tensor_parallel.group import join_group
from engine.tensor_parallel.ranks import rank_settings
from engine.tensor_parallel.wire import Setup, Step, WorkerFailed, WorkerLoaded, WorkerReply
from engine.tensor_parallel.worker import COMMAND
from engine.torch_runner import TorchRunner
from engine.weights.shard import Shard, ShardExchange

T = TypeVar("T")
_END_S = 2.0
"""Grace period for a rank to exit before it is killed."""


class TensorRunner:
    """Owns the processes of the other ranks and ends them when closed."""

    def __init__(self, settings: EngineSettings, progress: Callable[[str], None]) -> None:
        """Raises ModelError if the model cannot be split so, or a rank cannot load its part; the message says why."""
        own = rank_settings(settings)
        ranks = len(own)
        self._patience_s = float(settings.stall)
        self._folder = Path(tempfile.mkdtemp(prefix="penstock-ranks-"))
        store = str(self._folder / "store")
        self._others: list[_Rank] = []
        self._runner: TorchRunner | None = None
        self.total_blocks = 0
        progress(f"starting {ranks - 1} more ranks")

        def connect(blocks: int) -> ShardExchange:
            self.total_blocks = min(blocks, *[other.loaded().blocks for other in self._others])
            return join_group(store, 0, ranks, torch.device(own[0].device), self._patience_s)

        self._shard = Shard(0, ranks, connect)
        try:
            for rank in range(1, ranks):
                self._others.append(_Rank(Setup(own[rank], rank, ranks, store)))
            self._runner = runner = self._guarded(lambda: TorchRunner(own[0], progress, self._shard))
        except BaseException:
            self.close()
            raise
        self.dtype = runner.dtype
        self.quantization = runner.quantization
        self.block_size = runner.block_size
        self.kv_bytes = ranks * runner.kv_bytes
        self.vocab_size = runner.vocab_size
        self.max_model_len = runner.max_model_len

    def execute(self, batch: Batch) -> Sampled:
        """Run one forward pass on all ranks, write its KV, and sample the rows in `batch.samples`."""
        runner = self._send_batch(batch)
        return self._guarded(lambda: runner.execute(batch))

    def logits(self, batch: Batch) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Run one forward pass on all ranks and write its KV; the logits of the rows in `batch.samples`."""
        runner = self._send_batch(batch)
        return self._guarded(lambda: runner.logits(batch))

    def check_ranks(self) -> None:
        for other in self._others:
            other.check(0.0)

    def _send_batch(self, batch: Batch) -> TorchRunner:
        """Send the batch to the other ranks; the caller runs rank 0."""
        if self._runner is None:
            raise ModelError("engine_closed", "the engine is closed")
        step = frame(Step.of(batch))
        until = monotonic() + self._patience_s
        for other in self._others:
            other.send(step, until)
        return self._runner

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        raise ModelError("adapter_unsupported", f"{directory}: adapters are not served with tensor_parallel")

    def close(self) -> None:
        """Release the pool and the weights, and end the other ranks; a second call does nothing."""
        self._runner = None
        self._shard.disconnect()
        for other in self._others:
            other.close_pipe()
        until = monotonic() + _END_S
        for other in self._others:
            other.end(until)
        self._others.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except RuntimeError as error:
            # Raised by a process group when a rank is gone or does not answer in time.
            for other in self._others:
                other.check()
            raise EngineError(
                "tensor_parallel_failed", f"the ranks cannot compute together: {str(error).splitlines()[0]}"
            ) from error


def load_runner(settings: EngineSettings, progress: Callable[[str], None] | None = None) -> TorchRunner | TensorRunner:
    """Load `settings.model`; `progress` receives short messages about the loading stages.

    Raises ModelError: the directory cannot be served; the message says why.
    """
    report = progress or (lambda _: None)
    settings = resolve_alone(settings)
    if settings.tensor_parallel > 1:
        return TensorRunner(settings, report)
    return TorchRunner(rank_settings(settings)[0], report)


class _Rank:
    """The process of another rank."""

    def __init__(self, setup: Setup) -> None:
        self._title = f"rank {setup.rank} ({setup.settings.device})"
        self._process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  (ours)
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        self.send(frame(setup), float("inf"))

    def send(self, data: bytes, until: float) -> None:
        """Write to the rank's pipe. Raises EngineError if the process has ended or does not read."""
        rest = memoryview(data)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._pipe, rest) :]
                except BlockingIOError:
                    self._wait_for_room(until)
        except BrokenPipeError:
            self._process.wait()
            self.check()
            raise

    def _wait_for_room(self, until: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_WRITE)
            if not selector.select(None if until == float("inf") else max(until - monotonic(), 0.0)):
                raise EngineError("tensor_rank_stalled", f"{self._title} takes no more steps")

    def loaded(self) -> WorkerLoaded:
        """Wait until the part is loaded. Raises ModelError if the rank reports an error or ends."""
        assert self._process.stdout is not None
        reply: WorkerReply | None = read_frame(cast("BinaryIO", self._process.stdout), WorkerReply)  # type: ignore[arg-type]
        if reply is None:
            code = self._process.wait()
            raise ModelError("tensor_rank_lost", f"{self._title} ended while it was loading, {_how(code)}")
        if isinstance(reply, WorkerFailed):
            raise ModelError(reply.code, f"{self._title}: {reply.message}")
        return reply

    def check(self, patience_s: float = _END_S) -> None:
        """Raises EngineError if the process has ended, or ends within `patience_s`."""
        try:
            code = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return
        raise EngineError("tensor_rank_lost", f"{self._title} has ended, {_how(code)}")

    def close_pipe(self) -> None:
        """Close the pipe: the process ends after its current step."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self, until: float) -> None:
        """Wait until `until` (monotonic time) for the process to end, then kill it."""
        try:
            self._process.wait(max(until - monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _how(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"with exit code {code}"
