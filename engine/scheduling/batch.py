"""The interface between scheduler and runner: one step's work as flat arrays, and the sampled tokens."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from engine.lora.adapters import AdapterRows, PreparedAdapter
from engine.sampling.grammar import GrammarState
from engine.sampling.params import SamplingParams
from engine.scheduling.host_blocks import Move
from engine.text.reasoning_cap import CapState


class SampleRow(msgspec.Struct, gc=False):
    """One position whose next token is sampled in this step; a sequence with a draft has several, in order."""

    row: int
    """Row of the flat batch whose logits are sampled."""
    params: SamplingParams
    seed: int
    """64-bit seed; the generator is keyed by (seed, position) alone, so tokens do not depend on the batch."""
    position: int
    """Index, in the whole sequence, of the token to be sampled."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: list[int]
    """Output so far, including `output_prefix` and preceding draft tokens; read by the penalties, not modified."""
    banned_token_ids: tuple[int, ...] = ()
    """Not sampled in this step: end and stop tokens while `min_tokens` is not reached."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Token sequences that the sampled token must not complete."""
    grammar: GrammarState | None = None
    """Queried after the forward pass for the tokens that may follow `output_token_ids`; takes precedence over bans."""
    cap: CapState | None = None
    """Queried after the forward pass for the token that has to follow `output_token_ids`, whatever other rules say."""


def changes_logits(row: SampleRow) -> bool:
    """Whether any rule modifies the row's logits."""
    params = row.params
    return (
        params.presence_penalty != 0
        or params.frequency_penalty != 0
        or params.repetition_penalty != 1
        or bool(params.logit_bias)
        or bool(params.allowed_token_ids)
        or bool(row.banned_token_ids)
        or bool(row.bad_words)
    )


def chosen_by_device(row: SampleRow) -> bool:
    """Whether sampling needs nothing but the logits and numbers known before the step."""
    return row.grammar is None and row.cap is None and row.params.logprobs is None and not changes_logits(row)


class ScoredToken(msgspec.Struct, frozen=True, gc=False):
    """Log-probability of a prompt token under the model's own distribution."""

    token_id: int
    logprob: float
    rank: int
    """Rank among all tokens; 1 is the most probable."""
    top: tuple[tuple[int, float], ...]
    """(token id, log-probability) of the most probable tokens, best first."""


class ScoreRows(msgspec.Struct, gc=False):
    """Consecutive rows of one prompt whose following tokens are to be scored."""

    row: int
    """The first one, as a row of the flat batch."""
    targets: tuple[int, ...]
    """For each row the prompt token that follows it."""
    top: int
    """Number of most probable tokens to report per row."""


class Batch(msgspec.Struct):
    """A flat batch: the new tokens of all sequences concatenated, prefill chunks and decodes alike.

    Shapes: T new tokens, S sequences, B the longest block table. Block 0 is the scratch block that absorbs padding.
    """

    token_ids: npt.NDArray[np.int64]
    """[T]"""
    positions: npt.NDArray[np.int64]
    """[T]"""
    slots: npt.NDArray[np.int64]
    """[T] where the KV of each new token is written: block id * block size + offset."""
    query_starts: npt.NDArray[np.int32]
    """[S + 1] the rows of sequence s are query_starts[s] : query_starts[s + 1]."""
    context_lens: npt.NDArray[np.int32]
    """[S] tokens of KV that sequence s has after this step, the new ones included."""
    block_tables: npt.NDArray[np.int32]
    """[S, B] padded with 0."""
    samples: list[SampleRow]
    feeds: npt.NDArray[np.int32] | None = None
    """[T] index of the previous batch's sample that is the token, where the host does not know it yet (`token_ids` is 0
    there); -1 elsewhere. None: all tokens are known."""
    moves: list[Move] = msgspec.field(default_factory=list)
    """Copies of KV blocks between device and host, to be executed before the forward pass."""
    scores: list[ScoreRows] = msgspec.field(default_factory=list)
    adapters: tuple[AdapterRows, ...] = ()
    """One entry per adapter in the batch; rows in none of them have no adapter."""


def only_decodes(batch: Batch) -> bool:
    """Whether every sequence has one new token and samples it, so that equally large steps differ in inputs only."""
    return len(batch.token_ids) == len(batch.context_lens) == len(batch.samples)


def blank_batch(lengths: list[int], block_size: int, samples: Iterable[SampleRow] = ()) -> Batch:
    """Sequences of so many new tokens within the scratch block, for warming up and for recording."""
    positions = np.concatenate([np.arange(length) for length in lengths])
    return Batch(
        token_ids=np.zeros(len(positions), np.int64),
        positions=positions,
        slots=positions % block_size,
        query_starts=np.cumsum([0, *lengths], dtype=np.int32),
        context_lens=np.array(lengths, np.int32),
        block_tables=np.zeros((len(lengths), -(-max(lengths) // block_size)), np.int32),
        samples=list(samples),
    )


def sampled_rows(batch: Batch) -> npt.NDArray[np.int64]:
    """[len(batch.samples)] the rows of the flat batch to sample."""
    return np.fromiter((sample.row for sample in batch.samples), np.int64, len(batch.samples))


class Sampled(msgspec.Struct):
    """One entry for each of `Batch.samples`, in order."""

    token_ids: list[int]
    margins: list[float]
    """Best minus second best log-probability, in nats, before temperature and bans; under a grammar among the tokens
    that it allows, and infinite if it allows only one."""
    logprobs: list[tuple[float, tuple[tuple[int, float], ...]] | None]
    """(log-probability of the chosen token, [(token id, log-probability)] best first), or None if not requested."""
    scored: list[ScoredToken] = msgspec.field(default_factory=list)
    """One entry for each row of `Batch.scores`, in order."""


class Runner(Protocol):
    """A model with its KV pool. All calls come from the one thread that owns the engine."""

    block_size: int
    total_blocks: int
    """Blocks in the pool, scratch block 0 included."""
    kv_bytes: int
    """Size of the pool in bytes."""
    vocab_size: int
    max_model_len: int
    """Longest sequence (prompt + output) in tokens."""

    def execute(self, batch: Batch) -> Sampled:
        """Run one forward pass, write its KV, and sample the rows in `batch.samples`."""

    def read_adapter(self, directory: Path) -> PreparedAdapter:
        """Read and prepare an adapter for this model. Slow; callable from any thread, also while steps run.

        Raises ModelError: the adapter cannot be served; the message says why.
        """

    def close(self) -> None:
        """Release the pool and the weights; a second call does nothing."""


@runtime_checkable
class SwappingRunner(Runner, Protocol):
    """A runner that executes `Batch.moves`."""

    host_blocks: int
    """Number of blocks that it can hold in host memory."""


@runtime_checkable
class SplitRunner(Runner, Protocol):
    """A runner whose model is split over several processes."""

    def check_ranks(self) -> None:
        """Check, without waiting, that all ranks are alive. Raises EngineError if one has ended."""


@runtime_checkable
class OverlappingRunner(Runner, Protocol):
    """A runner that accepts the next batch while the device computes the previous one."""

    overlaps: bool
    """Whether it does on this device; otherwise only `execute` is called."""

    def launch(self, batch: Batch) -> Callable[[], Sampled]:
        """Start `batch`, resolving `Batch.feeds`. The returned functions wait for the result; call them in order."""
