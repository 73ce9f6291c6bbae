"""Messages to and from an engine's step loop: plain values, without torch and trio.

To the loop: commands, which are executed before a step. From it: one `StepReport` a step.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.lora.adapters import Adapter, AdapterUse
from engine.sampling.grammar import CompiledGrammar
from engine.sampling.params import SamplingParams
from engine.text.reasoning_cap import ReasoningCap

FinishReason = Literal["stop", "length", "content_filter", "abort", "error"]
"""content_filter: from upstreams only; engines have no such filter."""


class Submit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Add a sequence. Its `sequence_id` is unique during the engine's life."""

    sequence_id: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    """Higher is more important; the lowest is preempted first."""
    best_effort: bool = False
    """It computes only in steps in which no other sequence needs to, and gives way to any of them."""
    draft: tuple[int, ...] = ()
    """The expected first output tokens. They are computed with the prompt and kept as far as this model samples the
    same tokens at its seed, so a draft changes the time of the output tokens, never the tokens."""
    output_prefix: int = 0
    """This many last tokens of the prompt are an answer to continue: they count as output for the penalties."""
    cache_salt: bytes = b""
    """Part of the prefix cache's hash chain: sequences with different salts never share blocks."""
    grammar: CompiledGrammar | None = None
    """Constrains the answer, `output_prefix` included; compiled for the engine's tokenizer."""
    adapter: str = ""
    """Name of the adapter to use, in the version that is current when this command is executed; "" is none."""
    reasoning_cap: ReasoningCap | None = None
    """Counts the output from its beginning, `output_prefix` included. None: the reasoning may be of any length."""


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Drop a sequence at the next step boundary and free its blocks; unknown or finished ids are ignored."""

    sequence_id: int


class ExpectTokens(msgspec.Struct, frozen=True, tag=True):
    """A draft for a running sequence: the expected tokens after its first `after` output tokens.

    Output tokens that exist already must equal the beginning of the draft, which is then cut; otherwise the draft is
    dropped. It is ignored for unknown and finished ids, and while another draft is being computed.
    """

    sequence_id: int
    after: int
    draft: tuple[int, ...]


class Embed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Embed one input. For encoders only, which refuse `Submit`."""

    sequence_id: int
    token_ids: tuple[int, ...]
    """Special tokens included."""
    priority: int = 0
    """Higher is more important."""
    best_effort: bool = False
    """It is in no step with inputs that are not best effort."""
    size: int | None = None
    """Cut the vector to this many numbers and normalize it again; None: the whole vector."""
    second: int | None = None
    """Where the second of two texts begins, for a model that tells them apart; None: there is one text."""


class Weigh(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How probable are these answers to a prompt? For models of text; nothing is generated."""

    sequence_id: int
    prompt_token_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    """Each has tokens, and none occurs twice."""
    priority: int = 0
    """Higher is more important."""
    cache_salt: bytes = b""
    """As in `Submit`."""
    adapter: str = ""
    """As in `Submit`."""


class AddAdapter(msgspec.Struct, frozen=True, tag=True):
    """Sequences submitted after this that name the adapter use this version."""

    adapter: Adapter


class DropAdapter(msgspec.Struct, frozen=True, tag=True):
    """Sequences submitted after this cannot use the adapter; running ones keep it to their end."""

    name: str


Command = Submit | Abort | ExpectTokens | Embed | Weigh | AddAdapter | DropAdapter


class TokenLogprobs(msgspec.Struct, frozen=True, gc=False):
    """Log-probabilities of one position, taken from the model's distribution before temperature and masks."""

    token_id: int
    """-1: unknown, from an upstream."""
    logprob: float
    token_bytes: bytes
    """The token's own bytes: for OpenAI's `bytes` field, and its `token` string decoded with replacement."""
    top: tuple[tuple[int, float, bytes], ...] = ()
    """(token id, log-probability, bytes) of the best alternatives, best first."""
    special: bool = False
    """The token is not part of the text."""
    rank: int = 0
    """Rank of a prompt's token among all tokens, 1 for the most probable; 0: unknown. The first token of a prompt has
    no rank, and its `logprob` is NaN."""


class Finish(msgspec.Struct, frozen=True):
    """The end of a sequence: reason and counts."""

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that the prefix cache supplied."""
    stop: str | int | None = None
    """The stop string or stop token id that ended the sequence."""
    preemptions: int = 0
    drafted_tokens: int = 0
    """Draft tokens proposed for its output, by commands or by n-gram look-up."""
    accepted_tokens: int = 0
    """Draft tokens that the model sampled as well."""
    adapter_version: int = 0
    """Version of its adapter; 0 without one."""
    code: str = ""
    """With reason "error": the stable code of the error."""
    message: str = ""
    """With reason "error": the cause and the remedy."""
    reasoning_tokens: int = 0
    """As an upstream reports them; an engine does not know of reasoning."""


class TokenDelta(msgspec.Struct, frozen=True, tag=True, gc=False):
    """One step's output of one sequence. `text` never contains part of a character or of a stop string.

    Text can lag behind tokens (an unfinished character, a possible stop string); the delta with the finish flushes it.
    """

    sequence_id: int
    token_ids: tuple[int, ...]
    """One token, or more if draft tokens were accepted."""
    text: str
    margins: tuple[float, ...]
    """For each token the difference, in nats, between the best and the second best log-probability.

    A token to which a grammar left no alternative has none, because it does not show how sure the model is.
    """
    logprobs: tuple[TokenLogprobs, ...] = ()
    finish: Finish | None = None
    """With the last delta."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """If requested: one entry for each token of the prompt, with the first delta."""


class Embedding(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The result of `Embed` or `Weigh`."""

    sequence_id: int
    vector: bytes
    """float32, little-endian; of `Weigh` the natural logarithm of each answer's probability."""
    finish: Finish


class Finished(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The end of a sequence without further output: it was aborted or refused, or has failed."""

    sequence_id: int
    finish: Finish


SequenceOutput = TokenDelta | Embedding | Finished


def failed_output(sequence_id: int, prompt_tokens: int, code: str, message: str) -> Finished:
    """The only output of a sequence that never ran or has no usable result."""
    return Finished(
        sequence_id,
        Finish(reason="error", prompt_tokens=prompt_tokens, completion_tokens=0, code=code, message=message),
    )


class EngineStats(msgspec.Struct, frozen=True, gc=False):
    """One engine after one step. Counters are totals since it started."""

    total_blocks: int
    free_blocks: int
    """Blocks that a new sequence could take, including cached blocks without references."""
    cached_blocks: int
    running: int
    waiting: int
    outstanding_tokens: int
    """Prompt tokens to compute plus output tokens allowed."""
    step_s: float = 0.0
    step_tokens: int = 0
    steps_total: int = 0
    preemptions_total: int = 0
    prefix_queries_total: int = 0
    """Prompt tokens looked up in the prefix cache."""
    prefix_hits_total: int = 0
    """Prompt tokens found in the prefix cache."""
    prompt_tokens_total: int = 0
    generation_tokens_total: int = 0
    kv_bytes: int = 0
    """Memory of the KV pool."""
    drafted_tokens_total: int = 0
    accepted_tokens_total: int = 0
    """Draft tokens that the model sampled as well. Both totals include sequences that have ended."""
    host_blocks: int = 0
    """Evicted blocks of the prefix cache in host memory."""
    swapped_out_total: int = 0
    """Blocks copied to host memory."""
    swapped_in_total: int = 0
    """Blocks copied back."""
    best_effort_running: int = 0
    """How many of `running`, ..."""
    best_effort_waiting: int = 0
    """... of `waiting`, ..."""
    best_effort_tokens: int = 0
    """... and of `outstanding_tokens` are best-effort sequences."""
    best_effort_blocks: int = 0
    """Blocks in use that others could take from best-effort sequences."""

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks in use, 0 to 1."""
        return 1 - self.free_blocks / self.total_blocks if self.total_blocks else 0.0

    @property
    def kv_usage_of_others(self) -> float:
        """The same without what best-effort sequences hold."""
        held = self.best_effort_blocks / self.total_blocks if self.total_blocks else 0.0
        return max(self.kv_usage - held, 0.0)


def sum_of_stats(replicas: Sequence[EngineStats]) -> EngineStats:
    """Each counter summed over all replicas."""
    return EngineStats(**{name: sum([getattr(it, name) for it in replicas]) for name in EngineStats.__struct_fields__})


class StepReport(msgspec.Struct, frozen=True, tag=True):
    """The results of one step."""

    outputs: tuple[SequenceOutput, ...]
    stats: EngineStats
    adapters: tuple[AdapterUse, ...] = ()
    """All adapter versions in memory."""

    @property
    def deltas(self) -> list[TokenDelta]:
        """The outputs of sequences that brought tokens."""
        return [output for output in self.outputs if isinstance(output, TokenDelta)]


class EngineFailed(msgspec.Struct, frozen=True, tag=True):
    """The step loop has ended with an error; all its sequences are lost, and no further report follows."""

    code: str
    message: str
