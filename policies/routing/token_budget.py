"""How many tokens a request may need under its plan, by what its rungs hold."""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from policies.errors import CannotServe
from policies.model.backends import UNBOUNDED, UNSAID_TOKENS
from policies.model.features import Features
from policies.model.plan import Plan


class PromptSizes(msgspec.Struct, frozen=True):
    """Tokens of each prompt: tokenizers differ, and with them what a rung reads."""

    by_rung: Mapping[str, tuple[int, ...] | None]
    """None: not counted yet."""
    otherwise: tuple[int, ...] | None = None
    """Of rungs that are not named."""

    @classmethod
    def alike(cls, features: Features) -> "PromptSizes":
        """The same for every rung."""
        lengths = features.requirements.prompt_lengths
        return cls({}, lengths if sum(lengths) == features.prompt_tokens and lengths else (features.prompt_tokens,))

    def of(self, rung: str) -> tuple[int, ...] | None:
        """None: not counted yet."""
        return self.by_rung.get(rung, self.otherwise)

    def counted(self, rung: str, lengths: Sequence[int]) -> Self:
        """With those of one more rung."""
        return msgspec.structs.replace(self, by_rung={**self.by_rung, rung: tuple(lengths)})


def output_bound(features: Features, plan: Plan, lengths: Sequence[int], max_model_len: Mapping[str, int]) -> int:
    """Output tokens of a choice at the most, on whatever rung; `lengths` are the prompts' in tokens.

    Raises CannotServe if no rung can take it.
    """
    needs = features.requirements
    limits = [max_model_len[name] for name in plan.backends if name in max_model_len]
    asked, cap = features.max_tokens, plan.output_cap
    asked_or_cap = min(asked, cap) if asked and cap is not None else asked
    if not limits:
        return asked_or_cap
    longest = max(limits)
    if needs.embedding:
        for index, length in enumerate(lengths):
            if length > longest:
                raise CannotServe(_input_too_long(longest, length, index), param=needs.param, code=_TOO_LONG)
        return 0
    for length in lengths:
        if length + (0 if needs.prompt_only else max(asked_or_cap, 1)) > longest:
            raise CannotServe(_prompt_too_long(longest, length, asked_or_cap), param=needs.param, code=_TOO_LONG)
    # Asked for if nobody says how much: all that is left, or where the length is not known a fixed count.
    room = max(UNSAID_TOKENS if limit >= UNBOUNDED else limit - min(lengths) for limit in limits)
    return asked_or_cap or (min(cap, room) if cap is not None else room)


def tokens_at(max_tokens: int, cap: int | None, room: int) -> int | None:
    """Output tokens that a choice asks of one rung with `room` for them; 0: neither client nor route sets a limit.

    `max_tokens`: of the client, 0 for none; `cap`: of the route. None: the rung cannot take it.
    """
    asked = max_tokens if cap is None else min(max_tokens or cap, cap)
    if room < 1 or (max_tokens and asked > room):
        return None
    # A limit that only the route sets may be less.
    return min(asked, room)


_TOO_LONG = "context_length_exceeded"


def _prompt_too_long(longest: int, prompt_tokens: int, max_tokens: int) -> str:
    asked = f"{prompt_tokens} in the prompt"
    if max_tokens:
        asked += f" and {max_tokens} for the completion"
    return (
        f"This model's maximum context length is {longest} tokens, but the request needs "
        f"{prompt_tokens + max(max_tokens, 1)} ({asked}). Shorten the prompt or lower max_tokens."
    )


def _input_too_long(longest: int, input_tokens: int, index: int) -> str:
    return (
        f"This model's maximum input length is {longest} tokens, special tokens included, but input {index} has "
        f"{input_tokens}. Shorten it, or split it."
    )
