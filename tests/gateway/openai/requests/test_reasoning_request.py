"""What is asked of engines about reasoning, and what only upstreams can honour."""

import msgspec
import pytest

from actors.api.request import ChatMessage, ChatPrompt, ParsedBody
from engine.sampling.grammar import Grammar
from engine.sampling.params import SamplingParams
from gateway.errors import BadField
from gateway.openai.requests.reasoning_request import CHAT_REASONING, with_reasoning

BODY = ParsedBody(
    model="m",
    prompts=(ChatPrompt((ChatMessage("user", "Hi"),)),),
    params=SamplingParams(max_tokens=1),
    needs_upstream=("before",),
)


@pytest.mark.parametrize(
    ("thinking", "effort", "tokens", "asked", "needs"),
    [
        (None, None, None, (None, "", "", None), ()),
        (False, "none", None, (False, "", "", None), ()),
        (None, "high", None, (None, "high", "reasoning_effort", None), ()),
        (True, "minimal", 9, (True, "minimal", "reasoning_effort", 9), ()),
        (None, "<|end|>", None, (None, "", "", None), ("reasoning_effort",)),
        (None, "", 9, (None, "", "", 9), ("reasoning_effort",)),
    ],
)
def test_what_is_asked(thinking: bool | None, effort: object, tokens: int | None, asked: object, needs: object) -> None:
    read = with_reasoning(BODY, CHAT_REASONING, thinking, effort, tokens)
    assert (read.thinking, read.effort, read.effort_field, read.reasoning_tokens) == asked
    assert read.needs_upstream == ("before", *needs)


def test_a_grammar_leaves_no_reasoning_to_engines() -> None:
    bound = msgspec.structs.replace(BODY, grammar=Grammar("regex", "a"))
    assert with_reasoning(bound, CHAT_REASONING, True, None, None).needs_upstream == ("before", "chat_template_kwargs")
    assert with_reasoning(bound, CHAT_REASONING, False, None, None).needs_upstream == ("before",)


@pytest.mark.parametrize("tokens", [0, -1, 2**31])
def test_a_cap_is_a_number_of_tokens(tokens: int) -> None:
    with pytest.raises(BadField, match="must be at least 1") as refused:
        with_reasoning(BODY, CHAT_REASONING, None, None, tokens)
    assert refused.value.body.param == "thinking_token_budget"
