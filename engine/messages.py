"""What crosses the border between the world outside and one engine's step loop, in both directions.

In: commands, drained at the start of each step. Out: ONE `StepReport` a step. Both are plain values; no torch, no trio.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.lora.adapters import Adapter, AdapterUse
from engine.sampling.grammar import CompiledGrammar
from engine.sampling.params import SamplingParams

FinishReason = Literal["stop", "length", "content_filter", "abort", "error"]
"""No engine of ours has a content filter; an upstream may."""


class Submit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Take in one sequence. Its `sequence_id` is unique over the life of the engine."""

    sequence_id: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    """Higher is more important; the lowest is preempted first."""
    draft: tuple[int, ...] = ()
    """What somebody expects this model to say first. It is computed with the prompt; tokens are kept as far as they
    are those that this model takes itself at its seed, so a draft changes when tokens come, never which."""
    output_prefix: int = 0
    """The answer goes on from elsewhere: this many last tokens of the prompt count as output for the penalties."""
    cache_salt: bytes = b""
    """Goes into the hash chain of the prefix cache: sequences with different salts never share blocks."""
    grammar: CompiledGrammar | None = None
    """What the answer, `output_prefix` included, must be like; compiled for the engine's tokenizer."""
    adapter: str = ""
    """The name of the adapter to answer with, in the version that is current when the engine takes this in."""


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Drop a sequence at the next step boundary and free its blocks; unknown or finished ids are ignored."""

    sequence_id: int


class ExpectTokens(msgspec.Struct, frozen=True, tag=True):
    """A draft for a sequence that runs: what it is expected to say after its first `after` output tokens.

    It may have said more by now: what it said otherwise makes the draft worthless, what it said alike shortens it.
    Unknown and finished ids are ignored, and so is a draft that comes while another one is being computed.
    """

    sequence_id: int
    after: int
    draft: tuple[int, ...]


class Embed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Make one vector of one input. Only an encoder takes it, and an encoder takes no `Submit`."""

    sequence_id: int
    token_ids: tuple[int, ...]
    """As the model was trained to read them, special tokens included."""
    priority: int = 0
    """Higher is more important."""
    size: int | None = None
    """The vector is cut to so many numbers, and brought to length 1 again; None: it is left as it is."""


class AddAdapter(msgspec.Struct, frozen=True, tag=True):
    """Sequences that are submitted after this get it when they ask for its name."""

    adapter: Adapter


class DropAdapter(msgspec.Struct, frozen=True, tag=True):
    """Sequences that are submitted after this do not get it any more; those that have it keep it to their end."""

    name: str


Command = Submit | Abort | ExpectTokens | Embed | AddAdapter | DropAdapter


class TokenLogprobs(msgspec.Struct, frozen=True, gc=False):
    """Log-probabilities of one position, taken from the model's distribution before temperature and masks."""

    token_id: int
    """-1: not known; an upstream names no token ids."""
    logprob: float
    token_bytes: bytes
    """The token's own bytes: for OpenAI's `bytes` field, and its `token` string decoded with replacement."""
    top: tuple[tuple[int, float, bytes], ...] = ()
    """(token id, log-probability, bytes) of the best alternatives, best first."""
    special: bool = False
    """The token is no part of the text."""
    rank: int = 0
    """Of a prompt's token among all tokens, the likeliest first; 0: not known. The first token of all has none, and a
    `logprob` that is no number."""


class Finish(msgspec.Struct, frozen=True):
    """The last word on a sequence."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that the prefix cache supplied."""
    stop: str | int | None = None
    """The stop string or the stop token id that ended it."""
    preemptions: int = 0
    drafted_tokens: int = 0
    """Draft tokens proposed for its output, by the submitter or by the engine itself."""
    accepted_tokens: int = 0
    """Those of them that the model took."""
    adapter_version: int = 0
    """Of the adapter that it asked for; 0 without one."""
    code: str = ""
    """With reason "error": the stable code of the error."""
    message: str = ""
    """With reason "error": what was wrong and what to do."""


class TokenDelta(msgspec.Struct, frozen=True, gc=False):
    """What one step brought for one sequence. `text` never holds half a character nor part of a stop string.

    Text can lag behind tokens (an unfinished character, a possible stop string); the delta with the finish flushes it.
    """

    sequence_id: int
    token_ids: tuple[int, ...]
    """One, or more if a draft was right."""
    text: str
    margins: tuple[float, ...]
    """For each of these tokens the difference, in nats, between the best and the second best log-probability.

    A token to which a grammar left no alternative has none: it says nothing of how sure the model is.
    """
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish: Finish | None = None
    """With the last one."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """If they are asked for: of each of the prompt's tokens, all at once, with the first delta."""


class Embedding(msgspec.Struct, frozen=True, gc=False):
    """What `Embed` asked for, and its end."""

    sequence_id: int
    vector: bytes
    """float32, little-endian."""
    finish: Finish


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The end of a sequence for which no step brings anything more: it was aborted, refused, or has failed."""

    sequence_id: int
    finish: Finish


SequenceOutput = TokenDelta | Embedding | Finished


def failed_output(sequence_id: int, prompt_tokens: int, code: str, message: str) -> Finished:
    """The only output of what never ran, or gave nothing that can be shown."""
    return Finished(
        sequence_id,
        Finish(reason="error", prompt_tokens=prompt_tokens, completion_tokens=0, code=code, message=message),
    )


class EngineStats(msgspec.Struct, frozen=True, gc=False):
    """One engine after one step. Counters are totals since it started."""

    total_blocks: int
    free_blocks: int
    """Blocks that a new sequence could take, cached but unreferenced ones included."""
    cached_blocks: int
    running: int
    waiting: int
    outstanding_tokens: int
    """Prompt tokens still to compute plus output tokens still allowed: the work ahead."""
    step_s: float = 0.0
    step_tokens: int = 0
    steps_total: int = 0
    preemptions_total: int = 0
    prefix_queries_total: int = 0
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits_total: int = 0
    """Prompt tokens found there."""
    prompt_tokens_total: int = 0
    generation_tokens_total: int = 0
    kv_bytes: int = 0
    """Memory of the KV pool."""
    drafted_tokens_total: int = 0
    accepted_tokens_total: int = 0
    """Draft tokens that the model took; both count a sequence's when it ends."""
    host_blocks: int = 0
    """Evicted blocks of the prefix cache that host memory holds."""
    swapped_out_total: int = 0
    """Blocks that were copied there ..."""
    swapped_in_total: int = 0
    """... and back."""


def sum_of_stats(each: Sequence[EngineStats]) -> EngineStats:
    """Several engines taken as one."""
    return EngineStats(**{name: sum([getattr(one, name) for one in each]) for name in EngineStats.__struct_fields__})


class StepReport(msgspec.Struct, frozen=True):
    """All that one step has to say."""

    outputs: tuple[SequenceOutput, ...]
    stats: EngineStats
    adapters: tuple[AdapterUse, ...] = ()
    """All versions in memory."""

    @property
    def deltas(self) -> list[TokenDelta]:
        """The outputs of sequences that brought tokens."""
        return [output for output in self.outputs if isinstance(output, TokenDelta)]


class EngineFailed(msgspec.Struct, frozen=True, tag=True):
    """The step loop has ended with an error and will answer nothing more; every sequence in it is lost."""

    code: str
    message: str
