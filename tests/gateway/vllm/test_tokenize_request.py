"""`/tokenize` and `/detokenize`: bodies as they are read, and answers as they are written."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ChatPrompt, TextPrompt, TokenizeParams, TokenPrompt
from actors.request.tokenization import Tokenized
from gateway.errors import BadField
from gateway.openai.requests.json_body import BodyDecoder
from gateway.vllm.tokenize_request import (
    DetokenizeBody,
    TokenizeBody,
    detokenize_answer,
    read_detokenize,
    read_tokenize,
    tokenize_answer,
)

TURNS = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}


def read(**body: Any):
    return read_tokenize(*BodyDecoder(TokenizeBody).decode(msgspec.json.encode({"model": "small", **body})))


@pytest.mark.parametrize(
    ("body", "params", "param"),
    [
        ({"prompt": "Hi"}, TokenizeParams(), "prompt"),
        ({"prompt": ""}, TokenizeParams(), "prompt"),
        ({"prompt": "Hi", "add_special_tokens": False}, TokenizeParams(special_tokens=False), "prompt"),
        ({"prompt": "Hi", "return_token_strs": True}, TokenizeParams(spelled=True), "prompt"),
        ({"messages": TURNS}, TokenizeParams(special_tokens=False), "messages"),
        ({"messages": TURNS, "add_special_tokens": True}, TokenizeParams(), "messages"),
        (
            {"messages": TURNS, "add_generation_prompt": False, "chat_template_kwargs": {}, "chat_template": None},
            TokenizeParams(special_tokens=False, generation_prompt=False),
            "messages",
        ),
    ],
)
def test_what_is_asked_for(body: dict[str, Any], params: TokenizeParams, param: str) -> None:
    found = read(**body)
    assert (found.model, found.tokenize, found.param, len(found.prompts)) == ("small", params, param, 1)
    expected = ChatPrompt if "messages" in body else TextPrompt
    assert isinstance(found.prompts[0], expected)


def test_tools_are_the_templates() -> None:
    (tool,) = read(messages=TURNS, tools=[TOOL]).tools.tools
    assert tool.definition["function"]["name"] == "f"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "invalid_value"),
        ({"prompt": "Hi", "messages": TURNS}, "prompt", "invalid_value"),
        ({"prompt": "Hi", "tools": [TOOL]}, "tools", "invalid_value"),
        ({"prompt": "Hi", "add_generation_prompt": False}, "add_generation_prompt", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": TURNS, "chat_template": "{{ x }}"}, "chat_template", "unsupported_parameter"),
        ({"messages": TURNS, "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs", "unsupported_parameter"),
        ({"messages": TURNS, "continue_final_message": True}, "continue_final_message", "unsupported_parameter"),
        ({"messages": TURNS, "mm_processor_kwargs": {"a": 1}}, "mm_processor_kwargs", "unsupported_parameter"),
        ({"prompt": "Hi", "special": True}, "special", "unknown_field"),
        ({"prompt": ["Hi"]}, "prompt", "invalid_type"),
    ],
)
def test_what_is_refused(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read(**body)
    assert (refused.value.body.param, refused.value.body.code) == (param, code)


@pytest.mark.parametrize("tokens", [[], [1, 2], [0]])
def test_tokens_to_read(tokens: list[int]) -> None:
    found = read_detokenize(DetokenizeBody(model="small", tokens=tokens))
    assert found.prompts == (TokenPrompt(tuple(tokens)),)
    assert found.param == "tokens"


@pytest.mark.parametrize("tokens", [[-1], [2**31]])
def test_numbers_that_are_no_tokens(tokens: list[int]) -> None:
    with pytest.raises(BadField, match="'tokens' holds a number that is no token id"):
        read_detokenize(DetokenizeBody(model="small", tokens=tokens))


def test_answers() -> None:
    assert tokenize_answer(Tokenized((1, 2), 64, None)) == (
        b'{"count":2,"max_model_len":64,"tokens":[1,2],"token_strs":null}'
    )
    assert tokenize_answer(Tokenized((1,), None, ["\u0120a"])).decode() == (
        '{"count":1,"max_model_len":null,"tokens":[1],"token_strs":["\u0120a"]}'
    )
    assert detokenize_answer('a"') == b'{"prompt":"a\\""}'
