"""Engine for a decoder that makes vectors: computes prompts chunk by chunk, and generates nothing.

It shares the scheduler with the engine for text, so that long inputs are computed in chunks beside others. An input's
KV blocks are free as soon as its last token is computed; there is no prefix cache.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from config.model.settings import EngineSettings
from engine.core.embedder import check_embed, embedding_output
from engine.core.limits import EngineLimits
from engine.core.vector_engine import VectorEngine
from engine.errors import EngineError, ModelError
from engine.lora.adapters import AdapterUse
from engine.messages import (
    Embed,
    EngineStats,
    Finish,
    Finished,
    SequenceOutput,
    Submit,
)
from engine.model.sentence_modules import Pooling
from engine.model.vectors import EmbeddingSizes
from engine.sampling.params import SamplingParams
from engine.scheduling.batch import Batch
from engine.scheduling.plan import Share
from engine.scheduling.scheduler import Scheduler
from engine.scheduling.sequence import Sequence as Scheduled

_READ = SamplingParams(max_tokens=1, temperature=0.0, prompt_only=True)
_WITHOUT_EFFECT = (
    *("tensor_parallel", "prefix_cache", "generation_config", "reasoning", "reasoning_markers", "speculate"),
    *("adapters", "max_adapters", "max_adapter_rank"),
)
"""Settings that are for models of text."""


class VectorMaker(Protocol):
    """A decoder with its KV pool. All calls come from the one thread that owns the engine."""

    block_size: int
    total_blocks: int
    """Blocks in the pool, scratch block 0 included."""
    kv_bytes: int
    vocab_size: int
    max_input_tokens: int
    sizes: EmbeddingSizes
    pooling: Pooling

    def hidden(self, batch: Batch, rows: Sequence[tuple[int, int]]) -> list[npt.NDArray[np.float32]]:
        """Run one forward pass and write its KV.

        For each (first row, count) of `rows` the last layer's output, [count, hidden] float32; it does not depend on
        the other rows.
        """

    def vector(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The vector [sizes.whole] of a pooled row [hidden]."""

    def close(self) -> None:
        """Release the pool and the weights; a second call does nothing."""


class _Input:
    """An input that is not finished."""

    __slots__ = ("command", "scheduled", "total")

    def __init__(self, command: Embed, scheduled: Scheduled) -> None:
        self.command = command
        self.scheduled = scheduled
        self.total: npt.NDArray[np.float64] | None = None
        """The sum of its rows so far [hidden], or the one that counts; None: there is none yet."""


class DecoderEmbedder(VectorEngine):
    """Each accepted input gets exactly one output, which carries its finish, unless the engine itself fails."""

    _makes = "vectors"

    def __init__(
        self,
        runner: VectorMaker,
        settings: EngineSettings,
        *,
        name: str = "engine",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Raises EngineError if nothing could run under `settings`, or if they set keys that have no effect here."""
        _check(settings)
        super().__init__(name, clock, runner.close)
        self.limits = EngineLimits(
            vocab_size=runner.vocab_size,
            model_tokens=runner.max_input_tokens,
            pool_tokens=(runner.total_blocks - 1) * runner.block_size,
        )
        self._runner = runner
        self._scheduler = Scheduler(
            msgspec.structs.replace(settings, prefix_cache=False),
            total_blocks=runner.total_blocks,
            block_size=runner.block_size,
            max_model_len=self.limits.max_model_len,
        )
        self._total_blocks = runner.total_blocks - 1
        self._inputs: dict[int, _Input] = {}
        self._arrivals = 0

    @classmethod
    def load(cls, settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None) -> Self:
        """See `Engine.load`."""
        _check(settings)
        from engine.vector_runner import VectorRunner

        return cls(VectorRunner(settings, progress or (lambda _: None)), settings, name=name)

    @property
    def has_work(self) -> bool:
        return bool(self._pending_outputs or self._inputs)

    def submit(self, command: Embed) -> None:
        """Queue an input for the next steps. Raises RequestRefused if it can never be computed here, EngineDead."""
        self._check_alive()
        check_embed(command, self.limits, self._runner.sizes, known=command.sequence_id in self._inputs)
        self._arrivals += 1
        reading = Submit(
            sequence_id=command.sequence_id,
            prompt_token_ids=command.token_ids,
            params=_READ,
            priority=command.priority,
            best_effort=command.best_effort,
        )
        scheduled = Scheduled(reading, arrival=self._arrivals, limit=len(command.token_ids), seed=0, banned=())
        self._inputs[command.sequence_id] = _Input(command, scheduled)
        self._scheduler.add(scheduled)

    def abort(self, sequence_id: int) -> None:
        entry = self._inputs.pop(sequence_id, None)
        if entry is not None:
            self._scheduler.finish(entry.scheduled)
            finish = Finish(reason="abort", prompt_tokens=len(entry.command.token_ids), completion_tokens=0)
            self._pending_outputs.append(Finished(sequence_id, finish))

    def _unfinished(self) -> Iterable[int]:
        return self._inputs

    def _compute(self, outputs: list[SequenceOutput]) -> tuple[AdapterUse, ...]:
        plan = self._scheduler.schedule()
        if plan is None:
            return ()
        wanted, owners = self._rows(plan.shares)
        found = self._ending(partial(self._runner.hidden, plan.batch, wanted))
        for entry, rows in zip(owners, found, strict=True):
            before = np.zeros(rows.shape[1]) if entry.total is None else entry.total
            # Added row by row in double precision, so that chunks do not change the sum.
            entry.total = np.add.reduce(np.concatenate((before[None], rows)), axis=0)
        for scheduled in self._scheduler.commit(plan.shares):
            if scheduled is not None:
                outputs.append(self._finished(scheduled))
        self._steps += 1
        self._step_tokens = len(plan.batch.token_ids)
        self._prompt_tokens += self._step_tokens
        return ()

    def _rows(self, shares: Sequence[Share]) -> tuple[list[tuple[int, int]], list[_Input]]:
        """(first row, count) of the rows of this step's batch that count, and of which inputs they are."""
        wanted: list[tuple[int, int]] = []
        owners: list[_Input] = []
        start = 0
        for share in shares:
            scheduled, pooling = share.sequence, self._runner.pooling
            entry = self._inputs[scheduled.sequence_id]
            if not scheduled.computed:
                entry.total = None
            if pooling == "mean":
                wanted.append((start, share.tokens))
                owners.append(entry)
            elif (pooling == "cls" and not scheduled.computed) or (pooling == "last" and share.samples):
                wanted.append((start if pooling == "cls" else start + share.tokens - 1, 1))
                owners.append(entry)
            start += share.tokens
        return wanted, owners

    def _finished(self, scheduled: Scheduled) -> SequenceOutput:
        self._scheduler.finish(scheduled)
        entry = self._inputs.pop(scheduled.sequence_id)
        assert entry.total is not None, "the last step has brought its last row"
        count = len(entry.command.token_ids) if self._runner.pooling == "mean" else 1
        row = (entry.total / count).astype(np.float32)
        return embedding_output(entry.command, self._ending(partial(self._runner.vector, row)))

    def stats(self) -> EngineStats:
        now = self._scheduler.statistics()
        return EngineStats(
            total_blocks=self._total_blocks,
            free_blocks=now.blocks.free + now.blocks.cached,
            cached_blocks=now.blocks.cached,
            running=now.running,
            waiting=now.waiting,
            outstanding_tokens=now.outstanding_tokens,
            kv_bytes=self._runner.kv_bytes,
            step_s=self._step_s,
            step_tokens=self._step_tokens,
            steps_total=self._steps,
            preemptions_total=now.preemptions_total,
            prompt_tokens_total=self._prompt_tokens,
        )

    def check_integrity(self) -> None:
        """Raises EngineError if engine, scheduler and block manager contradict each other."""
        self._scheduler.check_integrity()
        statistics = self._scheduler.statistics()
        if len(self._inputs) != statistics.running + statistics.waiting:
            raise EngineError("engine_integrity", "an input has no sequence, or a sequence no input; this is a defect")

    def check_runner(self) -> None:
        """Nothing to check: such a decoder runs in this process only."""


def _check(settings: EngineSettings) -> None:
    plain = EngineSettings(model=settings.model)
    if wrong := [name for name in _WITHOUT_EFFECT if getattr(settings, name) != getattr(plain, name)]:
        raise ModelError(
            "engine_settings",
            f"{settings.model} makes vectors, not text, to which {', '.join(wrong)} means nothing: remove it",
        )
