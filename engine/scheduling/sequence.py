"""One sequence in the scheduler: known tokens, computed tokens, blocks."""

from collections.abc import Sequence as Items

from engine.lora.adapters import Adapter
from engine.messages import Submit, Weigh
from engine.sampling.grammar import GrammarState
from engine.scheduling.block_chain import chain_next, chain_root
from engine.text.reasoning_cap import CapState


def chain_root_of(command: Submit | Weigh, adapter: bytes) -> bytes:
    """The root of the sequence's block hash chain; different for tokens that must not share KV.

    `adapter` identifies the adapter; b"" is none.
    """
    extras = [("salt", command.cache_salt)]
    if adapter:
        extras.append(("adapter", adapter))
    return chain_root(extras)


class Sequence:
    """A sequence has `known` tokens (prompt and output), of which `computed` have their KV; there are no phases.

    A step that computes the last known token samples the next one. A draft follows the known tokens and is computed
    like them; each of its positions is sampled, too, and valid if all draft tokens before it were right.
    """

    def __init__(
        self,
        command: Submit,
        *,
        arrival: int,
        limit: int,
        seed: int,
        banned: tuple[int, ...],
        bad_words: tuple[tuple[int, ...], ...] = (),
        grammar: GrammarState | None = None,
        cap: CapState | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self.sequence_id = command.sequence_id
        self.prompt = command.prompt_token_ids
        self.params = command.params
        self.priority = command.priority
        self.best_effort = command.best_effort
        self.arrival = arrival
        self.limit = limit
        """Maximum length in tokens (prompt and output)."""
        self.seed = seed
        self.banned = banned
        """Token ids that end the output, banned while `min_tokens` is not reached."""
        self.bad_words = bad_words
        """See `SampleRow`."""
        self.grammar = grammar
        """Has consumed `output_prefix` and all output tokens."""
        self.cap = cap
        """The same; None: the reasoning may be of any length."""
        self.adapter = adapter
        self.output: list[int] = []
        self.penalty_output = list(self.prompt[-command.output_prefix :]) if command.output_prefix else self.output
        """What the penalties count as output: `output` itself, or with `output_prefix` a list that includes it."""
        self.known = len(self.prompt)
        self.computed = 0
        """At most `known`; between two steps less."""
        self.draft: list[int] = []
        """Draft tokens after the known tokens."""
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.blocks: list[int] = []
        self.row = -1
        """Row in the scheduler's block table while the sequence runs; -1 otherwise."""
        self.epoch = 0
        """Increased whenever the sequence leaves the batch; results of an earlier epoch are dropped."""
        self.feed = -1
        """Index of the in-flight sample that is the last known token; -1: all known tokens have arrived."""
        self.finished = False
        self.preemptions = 0
        self.cached_tokens = 0
        self.to_score = len(self.prompt) - 1 if self.params.prompt_logprobs is not None else 0
        """Prompt positions to score: all but the last, whose logits give the first output token."""
        self.scored = 0
        """Positions scored so far; kept on preemption."""
        self._names = [chain_root_of(command, b"" if adapter is None else adapter.prepared.digest)]
        self.propose(command.draft)

    @property
    def ahead(self) -> int:
        """Known and draft tokens: what the next steps compute."""
        return self.known + len(self.draft)

    @property
    def outstanding(self) -> int:
        """Tokens that may still have to be computed."""
        return self.limit - self.computed

    @property
    def seen(self) -> int:
        """Known tokens that have arrived on the host: all, or all but the last."""
        return self.known - (self.feed >= 0)

    @property
    def ending(self) -> bool:
        """Whether the in-flight token is the last that fits into `limit`."""
        return self.feed >= 0 and self.known >= self.limit

    @property
    def reusable(self) -> int:
        """Known tokens that may come from the prefix cache: not the last one, nor those still to be scored."""
        return self.known - 1 if self.scored == self.to_score else self.scored

    @property
    def importance(self) -> tuple[bool, int]:
        """What is least is preempted first."""
        return (not self.best_effort, self.priority)

    @property
    def order(self) -> tuple[bool, int, int]:
        """Sort key: best effort last, then higher priority, then earlier arrival."""
        return (self.best_effort, -self.priority, self.arrival)

    def tokens(self, start: int, end: int) -> Items[int]:
        """Known or draft tokens from `start` up to `end`; 0 for one that has not arrived."""
        if self.feed >= 0 and end == self.known:
            return (*self.tokens(start, end - 1), 0)
        if end > self.known:
            return (*self.tokens(start, self.known), *self.draft[: end - self.known])
        prompt = len(self.prompt)
        if start >= prompt:
            return self.output[start - prompt : end - prompt]
        if end <= prompt:
            return self.prompt[start:end]
        return (*self.prompt[start:], *self.output[: end - prompt])

    def propose(self, draft: Items[int]) -> None:
        """Set the draft, cut so that one more token fits after it. An earlier draft must be used up."""
        self.draft.extend(draft[: max(self.limit - self.known - 1, 0)])
        self.drafted_tokens += len(self.draft)

    def add_placeholder(self, sample: int) -> None:
        """Count one more known token, which arrives with `sample` of the step in flight."""
        self.feed = sample
        self.known += 1

    def append(self, token_id: int) -> bool:
        """Append a sampled token. True if it equals the draft, so that the next sample is valid as well."""
        self.output.append(token_id)
        if self.penalty_output is not self.output:
            self.penalty_output.append(token_id)
        if self.feed >= 0:
            self.feed = -1
        else:
            self.known += 1
        draft = self.draft
        if not draft:
            return False
        if draft[0] != token_id:
            draft.clear()
            return False
        del draft[0]
        self.accepted_tokens += 1
        return True

    def block_names(self, count: int, block_size: int) -> list[bytes]:
        """Hashes of the first `count` blocks, which must be full; cached."""
        names = self._names
        for index in range(len(names) - 1, count):
            names.append(chain_next(names[-1], self.tokens(index * block_size, (index + 1) * block_size)))
        return names[1 : count + 1]

    @property
    def known_names(self) -> list[bytes]:
        return self._names[1:]

    def block_name(self, index: int, block_size: int) -> bytes:
        if index + 1 >= len(self._names):
            self.block_names(index + 1, block_size)
        return self._names[index + 1]
