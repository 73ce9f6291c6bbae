"""One step's work as flat arrays: what the scheduler hands to a runner, and what the runner gives back."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from engine.lora.adapters import Adapter, PreparedAdapter
from engine.sampling.grammar import GrammarState
from engine.sampling.params import SamplingParams
from engine.scheduling.host_blocks import Move


class SampleRow(msgspec.Struct, gc=False):
    """One position whose next token is to be sampled in this step; a sequence with a draft has several, in order."""

    row: int
    """Row of the flat batch whose logits decide."""
    params: SamplingParams
    seed: int
    """The request's 64-bit seed; the generator is keyed by (seed, position) alone, so batches cannot matter."""
    position: int
    """Index, in the whole sequence, of the token to be sampled."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: list[int]
    """The answer so far, with what of it came from elsewhere or is only expected; read by the penalties, never
    written by the runner."""
    banned_token_ids: tuple[int, ...] = ()
    """Never sampled in this step: end and stop tokens while `min_tokens` is not reached."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Token sequences that `output_token_ids` must not be completed to."""
    grammar: GrammarState | None = None
    """Asked, after the forward pass, which tokens may follow `output_token_ids`. It has the last word over bans."""


class ScoredToken(msgspec.Struct, frozen=True, gc=False):
    """How likely a token was at its place, by the model's own distribution."""

    token_id: int
    logprob: float
    rank: int
    """1: no token was likelier."""
    top: tuple[tuple[int, float], ...]
    """(token id, log-probability) of the best, best first."""


class ScoreRows(msgspec.Struct, gc=False):
    """Rows of one prompt, one after the other, of which is asked how likely the token was that follows."""

    row: int
    """The first one in the flat batch."""
    targets: tuple[int, ...]
    """For each row the token that follows."""
    top: int
    """How many of the best tokens to name beside it."""


class AdapterRows(msgspec.Struct, frozen=True, gc=False):
    """Rows of the flat batch that one adapter is for."""

    start: int
    end: int
    adapter: Adapter


class Batch(msgspec.Struct):
    """A flat batch: all sequences' new tokens one after the other, prefill chunks and decodes alike.

    Shapes: T new tokens, S sequences, B the longest block table. Block 0 is the scratch block that absorbs padding.
    """

    token_ids: npt.NDArray[np.int64]
    """[T]"""
    positions: npt.NDArray[np.int64]
    """[T]"""
    slots: npt.NDArray[np.int64]
    """[T] where each new token's KV goes: block id * block size + offset."""
    query_starts: npt.NDArray[np.int32]
    """[S + 1] the rows of sequence s are query_starts[s] : query_starts[s + 1]."""
    context_lens: npt.NDArray[np.int32]
    """[S] tokens of KV that sequence s has after this step, the new ones included."""
    block_tables: npt.NDArray[np.int32]
    """[S, B] padded with 0."""
    samples: list[SampleRow]
    feeds: npt.NDArray[np.int32] | None = None
    """[T] Which sample of the batch launched before is the token, where the host does not know it yet (`token_ids` is
    0 there); -1 elsewhere. None: all are known."""
    moves: list[Move] = msgspec.field(default_factory=list)
    """Copies of KV blocks between device and host, to be done before anything else."""
    scores: list[ScoreRows] = msgspec.field(default_factory=list)
    adapters: tuple[AdapterRows, ...] = ()
    """One entry for each adapter in the batch; rows that are in none have no adapter."""


def only_decodes(batch: Batch) -> bool:
    """One new token of each sequence, and each is sampled: all that such a step differs by lies in its inputs."""
    return len(batch.token_ids) == len(batch.context_lens) == len(batch.samples)


def sampled_rows(batch: Batch) -> npt.NDArray[np.int64]:
    """[len(batch.samples)] rows of the flat batch."""
    return np.fromiter((sample.row for sample in batch.samples), np.int64, len(batch.samples))


class Sampled(msgspec.Struct):
    """One entry for each `Batch.samples`, in order."""

    token_ids: list[int]
    margins: list[float]
    """Best minus second best log-probability, in nats, before temperature and bans; under a grammar among the tokens
    that it allows, and infinite where it leaves no choice."""
    logprobs: list[tuple[float, tuple[tuple[int, float], ...]] | None]
    """(log-probability of the chosen token, [(token id, log-probability)] best first), or None if not asked for."""
    scored: list[ScoredToken] = msgspec.field(default_factory=list)
    """One entry for each row of `Batch.scores`, in order."""


class Runner(Protocol):
    """A model with its KV pool. All calls come from the one thread that owns the engine."""

    block_size: int
    total_blocks: int
    """Blocks in the pool, scratch block 0 included."""
    kv_bytes: int
    """Memory of the pool."""
    vocab_size: int
    max_model_len: int
    """Longest sequence (prompt + output) in tokens."""

    def execute(self, batch: Batch) -> Sampled:
        """Run one forward pass, write its KV, sample the asked rows."""
        ...

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        """Read and prepare an adapter for this model. Slow; may be called in any thread, also while steps run.

        Raises:
            ModelError: it cannot be served, and why.
        """
        ...

    def close(self) -> None:
        """Release the pool and the weights; a second call does nothing."""
        ...


@runtime_checkable
class SwappingRunner(Runner, Protocol):
    """A runner that obeys `Batch.moves`."""

    host_blocks: int
    """Blocks that it can keep on the host."""


@runtime_checkable
class SplitRunner(Runner, Protocol):
    """A runner that computes in more than one process."""

    def check_ranks(self) -> None:
        """Look, without waiting, whether the others are there. Raises EngineError: one has ended."""
        ...


@runtime_checkable
class OverlappingRunner(Runner, Protocol):
    """A runner that can be given the next batch while it still works on the last."""

    overlaps: bool
    """It does here; otherwise only `execute` is called."""

    def launch(self, batch: Batch) -> Callable[[], Sampled]:
        """Begin to `execute`, obeying `Batch.feeds`. What it returns waits for the result; to be called in order."""
        ...
