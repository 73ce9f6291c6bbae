"""Engine for an encoder model: takes inputs, embeds a batch of them in each step.

The counterpart of `engine.core.engine.Engine`, driven by the same step loop. There is no KV cache and no state between
steps: attention is bidirectional, so an input is computed whole, in one step.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from config.model.settings import EngineSettings
from engine.core.limits import EngineLimits
from engine.core.vector_engine import VectorEngine
from engine.errors import EngineError, ModelError, RequestRefused
from engine.lora.adapters import AdapterUse
from engine.messages import (
    Embed,
    Embedding,
    EngineStats,
    Finish,
    Finished,
    SequenceOutput,
    failed_output,
)
from engine.model.vectors import EmbeddingSizes

_BEST_EFFORT_SHARE = 4
"""A step of best-effort inputs takes one in so many tokens of a step: what comes meanwhile waits for its end."""
_SETTINGS = (
    *("model", "device", "replicas", "devices", "dtype", "threads"),
    *("max_running", "max_step_tokens", "max_model_len", "stall", "ignore_config_keys", "ignore_tensors"),
)
"""The settings that apply to an encoder."""


class EmbeddingRunner(Protocol):
    """An encoder model. All calls come from the one thread that owns the engine."""

    vocab_size: int
    max_input_tokens: int
    sizes: EmbeddingSizes

    def embed(self, inputs: Sequence[Sequence[int]], seconds: Sequence[int | None] = ()) -> npt.NDArray[np.float32]:
        """[inputs, sizes.whole] float32; the row of an input does not depend on the other inputs.

        `seconds`: where the second text of each input begins; None: it has one text; (): all have.
        """

    def close(self) -> None:
        """Release the weights; a second call does nothing."""


class Embedder(VectorEngine):
    """Each accepted input gets exactly one output, which carries its finish, unless the engine itself fails."""

    _makes = "embeddings"

    def __init__(
        self,
        runner: EmbeddingRunner,
        settings: EngineSettings,
        *,
        name: str = "engine",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """Raises EngineError if nothing could run under `settings`, or if they set keys that encoders do not have."""
        _check(settings)
        super().__init__(name, clock, runner.close)
        self.limits = EngineLimits(
            vocab_size=runner.vocab_size, model_tokens=runner.max_input_tokens, pool_tokens=runner.max_input_tokens
        )
        self._runner = runner
        self._max_inputs = settings.max_running
        self._max_step_tokens = settings.max_step_tokens
        self._waiting: dict[int, Embed] = {}
        """By sequence id, in order of arrival."""
        self._tokens = 0
        """Total tokens of the waiting inputs."""

    @classmethod
    def load(cls, settings: EngineSettings, name: str, progress: Callable[[str], None] | None = None) -> Self:
        """See `Engine.load`."""
        _check(settings)
        from engine.encoder_runner import EncoderRunner

        return cls(EncoderRunner(settings, progress or (lambda _: None)), settings, name=name)

    @property
    def has_work(self) -> bool:
        return bool(self._pending_outputs or self._waiting)

    def submit(self, command: Embed) -> None:
        """Queue an input for a later step. Raises RequestRefused if it can never be embedded here, EngineDead."""
        self._check_alive()
        check_embed(command, self.limits, self._runner.sizes, known=command.sequence_id in self._waiting)
        self._waiting[command.sequence_id] = command
        self._tokens += len(command.token_ids)

    def abort(self, sequence_id: int) -> None:
        command = self._waiting.pop(sequence_id, None)
        if command is not None:
            tokens = len(command.token_ids)
            self._tokens -= tokens
            finish = Finish(reason="abort", prompt_tokens=tokens, completion_tokens=0)
            self._pending_outputs.append(Finished(sequence_id, finish))

    def _unfinished(self) -> Iterable[int]:
        return self._waiting

    def _compute(self, outputs: list[SequenceOutput]) -> tuple[AdapterUse, ...]:
        chosen = self._choose()
        if chosen:
            inputs, seconds = zip(*[(command.token_ids, command.second) for command in chosen], strict=True)
            rows = self._ending(partial(self._runner.embed, inputs, seconds))
            outputs += [embedding_output(command, row) for command, row in zip(chosen, rows, strict=True)]
            self._steps += 1
            self._step_tokens = sum([len(command.token_ids) for command in chosen])
            self._prompt_tokens += self._step_tokens
        return ()

    def _choose(self) -> list[Embed]:
        """Take inputs that fit into one step: higher priority first, then earlier arrival.

        An input longer than `max_step_tokens` gets a step of its own. Best-effort inputs come last, and in
        shorter steps of their own.
        """
        chosen: list[Embed] = []
        # Sorting is stable, so equal priorities keep their order of arrival.
        first = sorted(self._waiting.values(), key=_importance, reverse=True)[: self._max_inputs]
        left = self._max_step_tokens
        if first and first[0].best_effort:
            left //= _BEST_EFFORT_SHARE
        for command in first:
            left -= len(command.token_ids)
            if chosen and (left < 0 or command.best_effort != chosen[0].best_effort):
                break
            chosen.append(command)
            del self._waiting[command.sequence_id]
            self._tokens -= len(command.token_ids)
        return chosen

    def stats(self) -> EngineStats:
        best_effort = [command for command in self._waiting.values() if command.best_effort]
        return EngineStats(
            total_blocks=0,
            free_blocks=0,
            cached_blocks=0,
            running=0,
            waiting=len(self._waiting),
            outstanding_tokens=self._tokens,
            best_effort_waiting=len(best_effort),
            best_effort_tokens=sum([len(command.token_ids) for command in best_effort]),
            step_s=self._step_s,
            step_tokens=self._step_tokens,
            steps_total=self._steps,
            prompt_tokens_total=self._prompt_tokens,
        )

    def check_integrity(self) -> None:
        """Check internal consistency. Raises EngineError: the token count differs from the waiting inputs."""
        if self._tokens != sum([len(command.token_ids) for command in self._waiting.values()]):
            raise EngineError("engine_integrity", "the waiting inputs do not add up; this is a defect")

    def check_runner(self) -> None:
        """Nothing to check: an encoder runs in this process only."""


def _importance(command: Embed) -> tuple[bool, int]:
    return (not command.best_effort, command.priority)


def check_embed(command: Embed, limits: EngineLimits, sizes: EmbeddingSizes, *, known: bool) -> None:
    """`known`: an input with its id waits already. Raises RequestRefused if it can never be computed."""
    ids, most = command.token_ids, limits.max_model_len
    if not ids:
        raise RequestRefused("prompt_empty", "The input has no tokens; send at least one.")
    if len(ids) > most:
        raise RequestRefused(
            "context_length_exceeded",
            f"The input has {len(ids)} tokens; this model's limit is {most} tokens. Shorten the input.",
        )
    if min(ids) < 0 or max(ids) >= limits.vocab_size:
        raise RequestRefused(
            "token_out_of_vocabulary",
            f"The input names token {max(ids)}; this model's token ids are 0 to {limits.vocab_size - 1}.",
        )
    if command.size is not None and not sizes.allows(command.size):
        raise RequestRefused("dimensions_unsupported", f"This model makes no embeddings of size {command.size}.")
    if known:
        raise RequestRefused(
            "sequence_id_in_use", f"Sequence id {command.sequence_id} is waiting already; ids must be unique."
        )


def embedding_output(command: Embed, row: npt.NDArray[np.float32]) -> Embedding | Finished:
    """The output of a computed vector, cut to the size that is requested."""
    if not np.isfinite(row).all():
        message = "the model's numbers overflowed for this input"
        return failed_output(command.sequence_id, len(command.token_ids), "embedding_not_finite", message)
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
