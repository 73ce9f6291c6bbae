"""How much the models of engines are to reason."""

from typing import Annotated

import msgspec

from actors.api.request import ParsedBody
from gateway.openai.requests.fault import fault
from gateway.openai.requests.neutral import field_schema

EFFORTS = frozenset({"minimal", "low", "medium", "high", "xhigh", "max"})
"""Words that chat templates may get. Others are for upstreams only: a template would write them into the prompt."""
_END = 2**31
ReasoningTokens = Annotated[int | None, field_schema(minimum=1, exclusiveMaximum=_END)]
"""Most tokens of the reasoning."""


class ReasoningFields(msgspec.Struct, frozen=True):
    """The names of an API's fields."""

    thinking: str
    effort: str
    tokens: str


CHAT_REASONING = ReasoningFields("chat_template_kwargs", "reasoning_effort", "thinking_token_budget")


def with_reasoning(
    body: ParsedBody, fields: ReasoningFields, thinking: bool | None, effort: object, tokens: int | None
) -> ParsedBody:
    """The body with what was asked for: whether to reason, how much in a word, and for how many tokens at most.

    Raises `BadField`.
    """
    if tokens is not None and not 1 <= tokens < _END:
        raise fault(fields.tokens, f"must be at least 1, not {tokens}.")
    word = effort if isinstance(effort, str) and effort in EFFORTS else ""
    needs: list[str] = []
    if thinking and body.bound_to is not None:
        # An engine does not reason where a grammar binds the answer.
        needs.append(fields.thinking)
    if effort not in {None, "none"} and not word:
        needs.append(fields.effort)
    if not (word or needs) and thinking is tokens is None:
        return body
    return msgspec.structs.replace(
        body,
        thinking=thinking,
        effort=word,
        effort_field=fields.effort if word else "",
        reasoning_tokens=tokens,
        needs_upstream=(*body.needs_upstream, *needs),
    )
