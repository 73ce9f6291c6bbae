"""One request inside the engine, as the scheduler sees it: tokens known, tokens computed, blocks held."""

from collections.abc import Sequence as Items

from engine.core.messages import Submit
from engine.lora.adapters import Adapter
from engine.sampling.grammar import GrammarState
from engine.scheduling.block_chain import chain_next, chain_root


def chain_root_of(command: Submit, adapter: bytes) -> bytes:
    """Under which name its KV begins: other tokens, or others who may not share, have other names.

    `adapter` tells adapters apart; b"" is none.
    """
    extras = [("salt", command.cache_salt)]
    if adapter:
        extras.append(("adapter", adapter))
    return chain_root(extras)


class Sequence:
    """There are no phases: a sequence has `known` tokens (prompt and output), of which `computed` have their KV.

    When the next step computes the last known token, it also samples one more. A draft stands after the known tokens
    and is computed like them; each of its positions is sampled, too, and counts if the draft was right so far.
    """

    __slots__ = (
        "_names",
        "accepted_tokens",
        "adapter",
        "arrival",
        "bad_words",
        "banned",
        "blocks",
        "cached_tokens",
        "computed",
        "draft",
        "drafted_tokens",
        "epoch",
        "feed",
        "finished",
        "grammar",
        "known",
        "limit",
        "output",
        "params",
        "preemptions",
        "priority",
        "prompt",
        "row",
        "said",
        "scored",
        "seed",
        "sequence_id",
        "to_score",
    )

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
        adapter: Adapter | None = None,
    ) -> None:
        self.sequence_id = command.sequence_id
        self.prompt = command.prompt_token_ids
        self.params = command.params
        self.priority = command.priority
        self.arrival = arrival
        self.limit = limit
        """Tokens (prompt and output) that it may grow to."""
        self.seed = seed
        self.banned = banned
        """Token ids that end it, and so are banned while `min_tokens` is not reached."""
        self.bad_words = bad_words
        """See `SampleRow`."""
        self.grammar = grammar
        """Has taken in what was said so far."""
        self.adapter = adapter
        self.output: list[int] = []
        self.said = list(self.prompt[-command.output_prefix :]) if command.output_prefix else self.output
        """What the penalties take for output; the very same list unless the answer began elsewhere."""
        self.known = len(self.prompt)
        self.computed = 0
        """At most `known`; between two steps less than that."""
        self.draft: list[int] = []
        """Expected to follow the known tokens."""
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self.blocks: list[int] = []
        self.row = -1
        """Its row in the scheduler's block table while it runs."""
        self.epoch = 0
        """Changes whenever it leaves the batch; results of an earlier epoch are not its own any more."""
        self.feed = -1
        """Which sample of the step under way is its last known token, as yet unseen; -1: all known tokens are seen."""
        self.finished = False
        self.preemptions = 0
        self.cached_tokens = 0
        self.to_score = len(self.prompt) - 1 if self.params.prompt_logprobs is not None else 0
        """Prompt positions whose logits the request wants: all but the last, which decide the first output token."""
        self.scored = 0
        """Those of them whose logits were taken; a preemption does not lose them."""
        self._names = [chain_root_of(command, b"" if adapter is None else adapter.prepared.digest)]
        self.propose(command.draft)

    @property
    def ahead(self) -> int:
        """Tokens known or expected: what the next steps compute."""
        return self.known + len(self.draft)

    @property
    def outstanding(self) -> int:
        """Tokens that may still have to be computed for it."""
        return self.limit - self.computed

    @property
    def seen(self) -> int:
        """Known tokens that the host has seen: all, or all but the last."""
        return self.known - (self.feed >= 0)

    @property
    def ending(self) -> bool:
        """The token under way is the last that it may have."""
        return self.feed >= 0 and self.known >= self.limit

    @property
    def reusable(self) -> int:
        """Known tokens whose KV may come from the prefix cache: not the last one, nor those whose logits are wanted."""
        return self.known - 1 if self.scored == self.to_score else self.scored

    @property
    def order(self) -> tuple[int, int]:
        """Smaller goes first: higher priority, then earlier arrival."""
        return (-self.priority, self.arrival)

    def tokens(self, start: int, end: int) -> Items[int]:
        """Tokens, known or expected, from `start` up to `end`; 0 for one that was not seen yet."""
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
        """Expect `draft`, as far as it leaves room for a token after it. An earlier draft must be used up."""
        self.draft.extend(draft[: max(self.limit - self.known - 1, 0)])
        self.drafted_tokens += len(self.draft)

    def foresee(self, sample: int) -> None:
        """One token more is known, though not seen before the step under way, whose `sample` it is, has ended."""
        self.feed = sample
        self.known += 1

    def append(self, token_id: int) -> bool:
        """Take in a sampled token. True if it was expected, so that what was sampled after it counts as well."""
        self.output.append(token_id)
        if self.said is not self.output:
            self.said.append(token_id)
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
        """Names of its first `count` blocks, all of them full; each is computed once."""
        names = self._names
        for index in range(len(names) - 1, count):
            names.append(chain_next(names[-1], self.tokens(index * block_size, (index + 1) * block_size)))
        return names[1 : count + 1]

    @property
    def known_names(self) -> list[bytes]:
        """Names of those of its blocks that somebody asked for."""
        return self._names[1:]

    def block_name(self, index: int, block_size: int) -> bytes:
        """Name of its full block `index`."""
        if index + 1 >= len(self._names):
            self.block_names(index + 1, block_size)
        return self._names[index + 1]
