"""An engine with almost no cost: the usual commands and reports, but no scheduler and no model."""

import time
from pathlib import Path

from engine.core.limits import EngineLimits
from engine.errors import ModelError
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.messages import (
    Abort,
    Command,
    EngineStats,
    Finish,
    Finished,
    FinishReason,
    SequenceOutput,
    StepReport,
    Submit,
    TokenDelta,
)

_TOTAL_BLOCKS = 1_000_000


class _Sequence:
    __slots__ = ("done", "prompt_tokens", "tokens")

    def __init__(self, prompt_tokens: int, tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.tokens = tokens
        self.done = 0


class FakeEngine:
    """One token per step and sequence; a step sleeps `step_s`. `max_tokens` = `silent_tokens` gets one token only."""

    def __init__(self, step_s: float, silent_tokens: int) -> None:
        self.name = "bench"
        self.adapters: tuple[Adapter, ...] = ()
        self.limits = EngineLimits(vocab_size=1 << 20, model_tokens=1 << 30, pool_tokens=1 << 30)
        self._step_s = step_s
        self._silent_tokens = silent_tokens
        self._running: dict[int, _Sequence] = {}
        self._silent: dict[int, _Sequence] = {}
        self._ends: list[SequenceOutput] = []
        self._next_at = 0.0
        self._steps = 0

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._ends)

    def accept(self, command: Command) -> None:
        """Start or drop a sequence."""
        match command:
            case Submit():
                sequence = _Sequence(len(command.prompt_token_ids), command.params.max_tokens)
                self._running[command.sequence_id] = sequence
            case Abort(sequence_id):
                aborted = self._running.pop(sequence_id, None) or self._silent.pop(sequence_id, None)
                if aborted is not None:
                    self._ends.append(_output(sequence_id, aborted, "abort"))

    def step(self) -> StepReport:
        """The next token of every sequence."""
        if self._step_s:
            now = time.perf_counter()
            self._next_at = max(self._next_at + self._step_s, now)
            time.sleep(max(self._next_at - now, 0))
        outputs, self._ends = self._ends, []
        for sequence_id, sequence in list(self._running.items()):
            sequence.done += 1
            if sequence.done == sequence.tokens:
                del self._running[sequence_id]
                outputs.append(_output(sequence_id, sequence, "length"))
                continue
            outputs.append(TokenDelta(sequence_id, (1,), " token", (9.0,)))
            if sequence.tokens == self._silent_tokens:
                self._silent[sequence_id] = self._running.pop(sequence_id)
        self._steps += 1
        return StepReport(tuple(outputs), self.stats())

    def stats(self) -> EngineStats:
        """All blocks are always free."""
        return EngineStats(_TOTAL_BLOCKS, _TOTAL_BLOCKS, 0, len(self._running), 0, 0, steps_total=self._steps)

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        """Raises ModelError: there are no adapters."""
        raise ModelError("adapter_unsupported", f"{directory}: this engine has no adapters")

    def abort_all(self) -> None:
        """Abort all sequences."""
        for sequence_id in [*self._running, *self._silent]:
            self.accept(Abort(sequence_id))

    def check_integrity(self) -> None: ...

    def check_runner(self) -> None: ...

    def close(self) -> None: ...


def _output(sequence_id: int, sequence: _Sequence, reason: FinishReason) -> SequenceOutput:
    finish = Finish(reason=reason, prompt_tokens=sequence.prompt_tokens, completion_tokens=sequence.done)
    if reason == "length":
        return TokenDelta(sequence_id, (1,), " token", (9.0,), finish=finish)
    return Finished(sequence_id, finish)
