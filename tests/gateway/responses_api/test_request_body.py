"""What bodies are understood, and what is said of those that are not."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ChatMessage, ChatPrompt, ParsedBody
from engine.sampling.grammar import Grammar
from gateway.errors import HttpError
from gateway.openai.requests.json_body import BodyDecoder
from gateway.responses_api.request_body import ResponseBody, read_response, with_history

DECODER = BodyDecoder(ResponseBody)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def read(**fields: Any) -> ParsedBody:
    return read_response(*DECODER.decode(msgspec.json.encode({"model": "m", "input": "Hi", **fields})))


def messages(body: ParsedBody) -> tuple[ChatMessage, ...]:
    prompt = body.prompts[0]
    assert isinstance(prompt, ChatPrompt)
    return prompt.messages


def test_every_field_arrives() -> None:
    body = read(
        instructions="Be brief.",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.25,
        top_k=4,
        seed=7,
        stream=True,
        stream_options={"include_obfuscation": False},
        top_logprobs=3,
        include=["message.output_text.logprobs"],
        metadata={"thread_id": "t"},
        user="u",
        prompt_cache_key="k",
        parallel_tool_calls=False,
        truncation="disabled",
        service_tier="auto",
        store=False,
    )
    assert messages(body) == (ChatMessage("system", "Be brief."), ChatMessage("user", "Hi"))
    params = body.params
    assert (params.max_tokens, params.temperature, params.top_p, params.top_k, params.seed) == (9, 0.5, 0.25, 4, 7)
    assert (params.logprobs, body.view.logprobs, body.streamed) == (3, 3, True)
    assert (body.conversation, body.user, body.cache_key, body.param) == ("t", "u", "k", "input")
    assert body.needs_upstream == ()
    asked = body.response
    assert asked is not None
    assert not asked.stored
    assert asked.items == ({"type": "message", "role": "user", "content": "Hi"},)
    repeated = {"instructions": "Be brief.", "temperature": 0.5, "top_logprobs": 3, "metadata": {"thread_id": "t"}}
    assert repeated.items() <= asked.fields.items()


def test_upstreams_get_what_chat_completions_have() -> None:
    body = read(
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        metadata={"a": "b"},
        prompt_cache_key="k",
        service_tier="flex",
        store=True,
        tools=[{"type": "function", "name": "f"}],
        temperature=1,
    )
    assert set(body.needs_upstream) == {"service_tier", "text.verbosity"}
    assert (body.effort, body.effort_field) == ("low", "reasoning.effort")
    assert body.written == {
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "prompt_cache_key": "k",
        "service_tier": "flex",
        "temperature": 1,
    }


@pytest.mark.parametrize(
    ("form", "kind", "lenient", "param"),
    [
        ({"type": "json_object"}, '{"type":"object"}', False, "text.format"),
        ({"type": "json_schema", "name": "n", "schema": {"a": 1}}, '{"a":1}', True, "text.format.schema"),
        (
            {"type": "json_schema", "name": "n", "schema": {"a": 1}, "strict": True},
            '{"a":1}',
            False,
            "text.format.schema",
        ),
    ],
)
def test_the_form_of_the_text(form: Any, kind: str, lenient: bool, param: str) -> None:
    assert read(text={"format": form}).grammar == Grammar("json_schema", kind, lenient=lenient, param=param)
    assert read(text={"format": {"type": "text"}}).grammar is None


def test_the_fields_of_chat_completions_for_grammars_count_here_too() -> None:
    assert read(guided_choice=["a", "b"]).grammar == Grammar("choice", '["a","b"]', param="guided_choice")
    asked = read(structured_outputs={"regex": "a+"}, text={"format": {"type": "text"}})
    assert asked.grammar == Grammar("regex", "a+", param="structured_outputs.regex")


def test_no_effect_is_no_error() -> None:
    body = read(
        reasoning={"effort": "none", "mode": "standard", "context": "auto"},
        text={"verbosity": "medium"},
        include=["reasoning.encrypted_content"],
        max_tool_calls=3,
        n=1,
        prompt_cache_options={"mode": "implicit"},
        context_management=[],
        prompt=None,
    )
    assert body.needs_upstream == ()
    assert body.view.logprobs is None


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"guided_choice": []}, "guided_choice", "invalid_value"),
    ({"guided_regex": "a", "text": {"format": {"type": "json_object"}}}, "guided_regex", "invalid_value"),
    ({"max_output_tokens": 2**31}, "max_output_tokens", "invalid_value"),
    ({"input": None}, "input", "missing_field"),
    ({"input": []}, "input", "missing_field"),
    ({"input": 3}, "input", "invalid_type"),
    ({"max_tokens": 3}, "max_tokens", "unsupported_parameter"),
    ({"n": 2}, "n", "unsupported_parameter"),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"reasoning": {"summary": "detailed"}}, "reasoning.summary", "unsupported_parameter"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode", "unsupported_parameter"),
    ({"include": ["all"]}, "include[0]", "invalid_type"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format", "missing_field"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_type"),
    ({"text": {"form": 1}}, "text.form", "unknown_field"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    ({"context_management": [{"type": "compaction"}]}, "context_management", "unsupported_parameter"),
    ({"moderation": {"model": "m"}}, "moderation", "unsupported_parameter"),
    ({"metadata": {"a": 1}}, "metadata", "unsupported_parameter"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation", "invalid_value"),
    ({"messages": []}, "messages", "unknown_field"),
    ({"max_output_token": 3}, "max_output_token", "unknown_field"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str | None, code: str) -> None:
    with pytest.raises(HttpError) as refused:
        read(**fields)
    assert (refused.value.body.param, refused.value.body.code) == (param, code)


def test_history_comes_after_the_instructions() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "noon"}
    body = read(instructions="Be brief.", input=[output], previous_response_id="resp_1")
    history = (
        {"type": "message", "role": "user", "content": "When?"},
        {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"},
    )
    whole = with_history(body, history)
    assert [message.role for message in messages(whole)] == ["system", "user", "assistant", "tool"]
    with pytest.raises(HttpError, match="No tool call found"):
        with_history(body, history[:1])


def test_a_request_can_be_stored_by_kept_answers() -> None:
    body = read(
        background=True,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        tools=[{"type": "custom", "name": "run"}],
        metadata={"a": "b"},
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(body), type=ParsedBody) == body
