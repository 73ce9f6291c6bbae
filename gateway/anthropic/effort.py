"""`thinking` and `output_config.effort`: how much to reason, in tokens for engines, in a word for upstreams."""

from typing import Annotated

import msgspec

from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema

EFFORTS = ("low", "medium", "high", "xhigh", "max")
_KINDS = ("enabled", "disabled", "adaptive")
_DISPLAYS = ("summarized", "omitted")
_DEFAULT = "high"
"""The API's: writing it changes nothing."""
_LEAST_TOKENS = 1024
_BY_TOKENS = ((4096, "low"), (16384, "medium"))
"""A budget below so many tokens is this effort; upstreams take no number of tokens."""


class Thinking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`thinking`."""

    type: Annotated[str, field_schema(enum=list(_KINDS))]
    budget_tokens: Annotated[int | None, field_schema(minimum=_LEAST_TOKENS)] = None
    display: Annotated[str | None, field_schema(enum=[*_DISPLAYS, None])] = None


class Reasoning(msgspec.Struct, frozen=True):
    """What was asked for."""

    effort: str | None = None
    """`reasoning_effort` for upstreams, which take no number of tokens; None: theirs."""
    asked: str | None = None
    """`effort`, if it is not the default."""
    budget: int | None = None
    """Most tokens of the reasoning of engines."""
    shown: bool = True
    """The answer has blocks with the reasoning, if there is some."""


def reasoning_of(thinking: Thinking | None, effort: str | None, max_tokens: int | None) -> Reasoning:
    """Raises `BadField`."""
    if effort is not None and effort not in EFFORTS:
        raise fault("output_config.effort", f"must be one of {', '.join(EFFORTS)}.")
    asked = effort if effort != _DEFAULT else None
    if thinking is None:
        return Reasoning(asked, asked)
    if thinking.display not in {None, *_DISPLAYS}:
        raise fault("thinking.display", 'must be "summarized" or "omitted".')
    if (thinking.budget_tokens is not None) != (thinking.type == "enabled"):
        raise fault("thinking.budget_tokens", 'is required with the type "enabled", and not allowed with others.')
    shown = thinking.display != "omitted"
    match thinking.type:
        case "disabled":
            if asked:
                raise fault("output_config.effort", "cannot be honoured while 'thinking' is disabled: leave one out.")
            return Reasoning("none", shown=False)
        case "adaptive":
            # The model decides whether to think: one that cannot has decided.
            return Reasoning(effort, asked, shown=shown)
        case "enabled":
            budget = thinking.budget_tokens or 0
            if budget < _LEAST_TOKENS or (max_tokens is not None and budget >= max_tokens):
                raise fault("thinking.budget_tokens", f"must be at least {_LEAST_TOKENS} and below 'max_tokens'.")
            by_tokens = next((word for tokens, word in _BY_TOKENS if budget < tokens), "high")
            return Reasoning(effort or by_tokens, asked, budget, shown)
        case _:
            raise fault("thinking.type", 'must be "enabled", "disabled" or "adaptive".', "unsupported_parameter")
