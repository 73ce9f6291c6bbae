"""One model that embeds: inputs come in, each step makes the vectors of some of them, whole.

It is to an encoder what `engine.core.engine.Engine` is to a decoder; the same step loop moves it. There is no KV and no
state between steps: every token of an input sees every other one, so that an input is computed in one step or not at
all.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from config.model.settings import EngineSettings
from engine.core.life import EngineLifecycle
from engine.core.limits import EngineLimits
from engine.core.messages import (
    Abort,
    AddAdapter,
    Command,
    DropAdapter,
    Embed,
    Embedding,
    EngineStats,
    ExpectTokens,
    Finish,
    Finished,
    StepReport,
    Submit,
    failed_output,
)
from engine.errors import EngineError, ModelError, RequestRefused
from engine.lora.adapters import Adapter, PreparedAdapter
from engine.model.encoder_config import EmbeddingSizes

_PRIORITY = attrgetter("priority")
_SETTINGS = (
    *("model", "device", "replicas", "devices", "dtype", "threads"),
    *("max_running", "max_step_tokens", "max_model_len", "stall", "ignore_config_keys", "ignore_tensors"),
)
"""Those that mean something to an encoder."""


class EmbeddingRunner(Protocol):
    """An encoder. All calls come from the one thread that owns the engine."""

    vocab_size: int
    max_input_tokens: int
    sizes: EmbeddingSizes

    def embed(self, inputs: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """[inputs, sizes.whole]; an input's row does not depend on the others."""
        ...

    def close(self) -> None:
        """Release the weights; a second call does nothing."""
        ...


class Embedder:
    """Every input taken in gets exactly one output, which is its last, unless the engine itself dies."""

    def __init__(
        self,
        runner: EmbeddingRunner,
        settings: EngineSettings,
        *,
        name: str = "engine",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Raises EngineError: nothing could run under `settings`, or they speak of what an encoder has not."""
        _check(settings)
        self.name = name
        self.limits = EngineLimits(
            vocab_size=runner.vocab_size, model_tokens=runner.max_input_tokens, pool_tokens=runner.max_input_tokens
        )
        self._runner = runner
        self._most_inputs = settings.max_running
        self._most_tokens = settings.max_step_tokens
        self._clock = clock
        self._waiting: dict[int, Embed] = {}
        """By sequence id, in order of arrival."""
        self._tokens = 0
        """Of those that wait."""
        self._unsaid: list[Embedding | Finished] = []
        """Ends that happened between two steps; the next report carries them."""
        self._steps = 0
        self._step_s = 0.0
        self._step_tokens = 0
        self._prompt_tokens = 0
        self._life = EngineLifecycle(name)

    @classmethod
    def load(cls, settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None) -> Self:
        """Load `settings.model`. Slow, and imports torch: to be called in the thread that will own the engine.

        Raises:
            EngineError: the directory cannot be served (ModelError), or not with these settings; and why.
        """
        _check(settings)
        from engine.encoder_runner import EncoderRunner

        return cls(EncoderRunner(settings, progress or (lambda _: None)), settings, name=name)

    @property
    def has_work(self) -> bool:
        """A step would have something to do or to say."""
        return bool(self._unsaid or self._waiting)

    def accept(self, command: Command) -> None:
        """Obey a command that nobody waits for: a refusal becomes the input's output in the next report."""
        match command:
            case Embed():
                try:
                    self.submit(command)
                except RequestRefused as error:
                    self._refuse(command.sequence_id, len(command.token_ids), error)
            case Abort(sequence_id):
                self.abort(sequence_id)
            case Submit(sequence_id=sequence_id, prompt_token_ids=prompt):
                self._refuse(sequence_id, len(prompt), RequestRefused("not_generating", "this model makes no text"))
            case ExpectTokens() | AddAdapter() | DropAdapter():
                pass

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """None."""
        return ()

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        """Raises ModelError: an encoder has no adapters."""
        raise ModelError("adapter_unsupported", f"{directory}: adapters are served for models that make text")

    def submit(self, command: Embed) -> None:
        """Take in an input.

        Raises:
            RequestRefused: it can never be embedded here.
            EngineDead: the engine has ended.
        """
        self._life.check()
        self._check(command)
        self._waiting[command.sequence_id] = command
        self._tokens += len(command.token_ids)

    def _check(self, command: Embed) -> None:
        ids, most = command.token_ids, self.limits.max_model_len
        if not ids:
            raise RequestRefused("prompt_empty", "the input has no tokens; send at least one")
        if len(ids) > most:
            raise RequestRefused(
                "context_length_exceeded",
                f"the input has {len(ids)} tokens; this model's limit is {most} tokens; shorten the input",
            )
        if min(ids) < 0 or max(ids) >= self.limits.vocab_size:
            raise RequestRefused(
                "token_out_of_vocabulary",
                f"the input names token {max(ids)}; this model's token ids are 0 to {self.limits.vocab_size - 1}",
            )
        if command.size is not None and not self._runner.sizes.allows(command.size):
            raise RequestRefused("dimensions_unsupported", f"this model makes no embeddings of size {command.size}")
        if command.sequence_id in self._waiting:
            raise RequestRefused(
                "sequence_id_in_use", f"sequence id {command.sequence_id} is waiting already; ids must be unique"
            )

    def _refuse(self, sequence_id: int, tokens: int, error: RequestRefused) -> None:
        self._unsaid.append(failed_output(sequence_id, tokens, error.code, error.message))

    def abort(self, sequence_id: int) -> None:
        """Drop an input; unknown and finished ids are ignored."""
        command = self._waiting.pop(sequence_id, None)
        if command is not None:
            tokens = len(command.token_ids)
            self._tokens -= tokens
            finish = Finish(reason="abort", prompt_tokens=tokens, completion_tokens=0)
            self._unsaid.append(Finished(sequence_id, finish))

    def abort_all(self) -> None:
        """Drop every input: the engine is about to be closed."""
        for sequence_id in list(self._waiting):
            self.abort(sequence_id)

    def step(self) -> StepReport:
        """Embed some inputs, and report all that happened since the last report.

        Raises:
            EngineDead: the runner failed, now or earlier.
        """
        self._life.check()
        started = self._clock()
        outputs, self._unsaid = self._unsaid, []
        self._step_tokens = 0
        chosen = self._choose()
        if chosen:
            try:
                rows = self._runner.embed([command.token_ids for command in chosen])
            except Exception as error:
                raise self._life.fail(error) from error
            outputs += [_output(command, row) for command, row in zip(chosen, rows, strict=True)]
            self._steps += 1
            self._step_tokens = sum([len(command.token_ids) for command in chosen])
            self._prompt_tokens += self._step_tokens
        self._step_s = self._clock() - started
        return StepReport(tuple(outputs), self.stats())

    def _choose(self) -> list[Embed]:
        """Higher priorities first, then earlier arrivals, as far as they fit into a step.

        One that alone is too long for a step has its own.
        """
        chosen: list[Embed] = []
        left = self._most_tokens
        # Sorting keeps the order of arrival among equals.
        for command in sorted(self._waiting.values(), key=_PRIORITY, reverse=True)[: self._most_inputs]:
            left -= len(command.token_ids)
            if chosen and left < 0:
                break
            chosen.append(command)
            del self._waiting[command.sequence_id]
            self._tokens -= len(command.token_ids)
        return chosen

    def stats(self) -> EngineStats:
        """The engine at this moment; it has no KV blocks."""
        return EngineStats(
            total_blocks=0,
            free_blocks=0,
            cached_blocks=0,
            running=0,
            waiting=len(self._waiting),
            outstanding_tokens=self._tokens,
            step_s=self._step_s,
            step_tokens=self._step_tokens,
            steps_total=self._steps,
            prompt_tokens_total=self._prompt_tokens,
        )

    def check_integrity(self) -> None:
        """Compare all books with each other.

        Raises:
            EngineError: they contradict each other.
        """
        if self._tokens != sum([len(command.token_ids) for command in self._waiting.values()]):
            raise EngineError("engine_integrity", "the waiting inputs do not add up; this is a defect")

    def check_runner(self) -> None:
        """It computes in this process alone."""

    def close(self) -> None:
        """Release the runner; a second call does nothing."""
        self._life.close()
        self._runner.close()


def _output(command: Embed, row: npt.NDArray[np.float32]) -> Embedding | Finished:
    if not np.isfinite(row).all():
        said = "the model's numbers overflowed for this input"
        return failed_output(command.sequence_id, len(command.token_ids), "embedding_not_finite", said)
    if command.size is not None and command.size < len(row):
        row = row[: command.size] / np.linalg.norm(row[: command.size])
    finish = Finish(reason="stop", prompt_tokens=len(command.token_ids), completion_tokens=0)
    return Embedding(command.sequence_id, row.astype("<f4").tobytes(), finish)


def _check(settings: EngineSettings) -> None:
    for key, value in (("max_running", settings.max_running), ("max_step_tokens", settings.max_step_tokens)):
        if value < 1:
            raise EngineError("engine_settings", f"{key} = {value}: nothing could ever run; it must be at least 1")
    plain = EngineSettings(model=settings.model)
    others = [name for name in settings.__struct_fields__ if name not in _SETTINGS]
    if wrong := [name for name in others if getattr(settings, name) != getattr(plain, name)]:
        raise ModelError(
            "engine_settings",
            f"{settings.model} is an encoder, to which {', '.join(wrong)} means nothing: remove it. An encoder has "
            f"{', '.join(_SETTINGS)}",
        )
