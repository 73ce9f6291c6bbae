"""The tokens that a request may need under its plan, given the context lengths of its rungs."""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from policies.errors import CannotServe
from policies.model.backends import UNBOUNDED, UNLIMITED_OUTPUT_TOKENS
from policies.model.features import Features

_TOO_LONG = "context_length_exceeded"


class PromptSizes(msgspec.Struct, frozen=True):
    """Tokens of each prompt by rung, as tokenizers differ."""

    by_rung: Mapping[str, tuple[int, ...] | None]
    """None: not counted yet."""
    otherwise: tuple[int, ...] | None = None
    """For all other rungs."""

    @classmethod
    def alike(cls, features: Features) -> "PromptSizes":
        """The same for every rung."""
        lengths = features.requirements.prompt_lengths
        return cls({}, lengths if sum(lengths) == features.prompt_tokens and lengths else (features.prompt_tokens,))

    def of(self, rung: str) -> tuple[int, ...] | None:
        return self.by_rung.get(rung, self.otherwise)

    def counted(self, rung: str, lengths: Sequence[int]) -> Self:
        return msgspec.structs.replace(self, by_rung={**self.by_rung, rung: tuple(lengths)})


def output_bound(features: Features, cap: int | None, lengths: Sequence[int], context_lengths: Sequence[int]) -> int:
    """The maximum output tokens of a choice on any rung; `lengths` are the prompts' in tokens.

    `cap`: of the route; `context_lengths`: of the rungs, as far as known. Raises CannotServe if no rung can take it.
    """
    needs, max_tokens = features.requirements, features.max_tokens
    capped = min(max_tokens, cap) if max_tokens and cap is not None else max_tokens
    if not context_lengths:
        return capped
    longest = max(context_lengths)
    if needs.embedding:
        for index, length in enumerate(lengths):
            if length > longest:
                raise CannotServe(
                    f"This model's maximum input length is {longest} tokens, special tokens included, but input "
                    f"{index} has {length}. Shorten it, or split it.",
                    param=needs.param,
                    code=_TOO_LONG,
                )
        return 0
    for length in lengths:
        if length + (0 if needs.prompt_only else max(capped, 1)) > longest:
            completion = f" and {capped} for the completion" if capped else ""
            raise CannotServe(
                f"This model's maximum context length is {longest} tokens, but the request needs "
                f"{length + max(capped, 1)} ({length} in the prompt{completion}). Shorten the prompt or lower "
                "max_tokens.",
                param=needs.param,
                code=_TOO_LONG,
            )
    if capped:
        return capped
    # Without a limit: all tokens that are left, or a fixed count if the context length is unknown.
    room = max(UNLIMITED_OUTPUT_TOKENS if each >= UNBOUNDED else each - min(lengths) for each in context_lengths)
    return min(cap, room) if cap is not None else room


def tokens_at(max_tokens: int, cap: int | None, room: int) -> int | None:
    """Output tokens of a choice on a rung with `room` for them; 0: neither client nor route sets a limit.

    `max_tokens`: of the client, 0 for none; `cap`: of the route. None: the rung cannot take it.
    """
    tokens = max_tokens if cap is None else min(max_tokens or cap, cap)
    if room < 1 or (max_tokens and tokens > room):
        return None
    # A limit of the route alone is cut to the room.
    return min(tokens, room)
