"""A body as a request: each field that has an effect, what upstreams get of it, and what is refused."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ChatMessage, ChatPrompt, ParsedBody
from actors.protocol.job import UpstreamCall
from actors.upstream.request_body import build_request_body
from config.model.upstreams import UpstreamSettings
from gateway.anthropic.message_request import MessagesBody, read_count, read_message
from gateway.errors import BadField
from gateway.openai.requests.chat_request import ChatBody, read_chat
from gateway.openai.requests.json_body import BodyDecoder

decoder = BodyDecoder(MessagesBody)
BODY: dict[str, Any] = {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
CLOCK = {"name": "clock", "input_schema": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NAMED = {"name": "answer", "schema": SCHEMA, "strict": True}
CLEARS = {"edits": [{"type": "clear_tool_uses_20250919"}]}


def read(**fields: object) -> ParsedBody:
    return read_message(*decoder.decode(msgspec.json.encode({**BODY, **fields})))


def sent(supports: tuple[str, ...] = (), **fields: object) -> dict[str, Any]:
    """The body that an upstream gets."""
    body = read(**fields)
    call = UpstreamCall(
        sequence_id=1,
        model="theirs",
        prompt=body.prompts[0],
        params=body.params,
        grammar=body.grammar,
        limit=body.params.max_tokens,
        written=body.written,
        streamed=False,
    )
    return msgspec.json.decode(
        build_request_body(call, UpstreamSettings(urls=("http://up/v1",), model="theirs", supports=supports)).body
    )


def test_the_same_question_is_the_same_request() -> None:
    shared = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "stream": True}
    turns = [{"role": "system", "content": "Be brief."}, *BODY["messages"]]
    chat = {**BODY, **shared, "messages": turns, "stop": ["x"], "user": "u"}
    expected = read_chat(*BodyDecoder(ChatBody).decode(msgspec.json.encode(chat)), 1)
    found = read(**shared, system="Be brief.", stop_sequences=["x"], metadata={"user_id": "u"})
    assert msgspec.structs.replace(found, written={}) == msgspec.structs.replace(expected, written={})


@pytest.mark.parametrize(
    ("fields", "there"),
    [
        ({}, {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}),
        ({"temperature": 1, "top_p": 1}, {"temperature": 1.0, "top_p": 1.0}),
        ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"max_tokens": 5000, "thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning_effort": "low"}),
        ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"response_format": {"type": "json_schema", "json_schema": NAMED}},
        ),
        ({"tools": [CLOCK], "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        ({"tools": [CLOCK], "tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "clock"}},
            {"tool_choice": {"type": "function", "function": {"name": "clock"}}, "parallel_tool_calls": False},
        ),
    ],
)
def test_upstreams_get_it_in_their_words(fields: dict[str, Any], there: dict[str, Any]) -> None:
    body = sent(**fields)
    assert {name: body.get(name) for name in there} == there
    if "tools" in fields:
        assert body["tools"] == [
            {"type": "function", "function": {"name": "clock", "parameters": CLOCK["input_schema"]}}
        ]
    allowed = {"model", "stream", "messages", "max_tokens", "tools", *there}
    assert body.keys() <= allowed


def test_engines_are_asked_for_no_reasoning_where_it_is_disabled() -> None:
    disabled, adaptive, plain = read(thinking={"type": "disabled"}), read(thinking={"type": "adaptive"}), read()
    assert [each.thinking for each in (disabled, adaptive, plain)] == [False, None, None]
    assert disabled.needs_upstream == ()


def test_upstreams_that_support_cache_breakpoints_get_them() -> None:
    ephemeral = {"type": "ephemeral"}
    asked = {"system": [{"type": "text", "text": "Be brief.", "cache_control": ephemeral}], "cache_control": ephemeral}
    whole, plain = sent(("cache_control",), **asked), sent(**asked)
    assert [message["content"] for message in plain["messages"]] == ["Be brief.", "Hi"]
    assert [message["content"] for message in whole["messages"]] == [
        [{"type": "text", "text": each, "cache_control": ephemeral}] for each in ("Be brief.", "Hi")
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "auto", "speed": "standard", "inference_geo": "global", "mcp_servers": [], "fallbacks": []},
        {"context_management": {"edits": []}, "container": None, "diagnostics": {"previous_message_id": None}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}},
        {"tools": [], "stop_sequences": [], "system": None, "metadata": {}, "stream": False},
    ],
)
def test_what_has_no_effect_is_accepted(fields: dict[str, Any]) -> None:
    expected = read()
    found = read(**fields)
    assert (found.prompts, found.params, found.needs_upstream) == (expected.prompts, expected.params, ())


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"max_tokens": None}, "max_tokens", "missing_field"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "9"}, "max_tokens", "invalid_type"),
        ({"temperature": 1.01}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"stop_sequences": [""]}, "stop_sequences", "invalid_value"),
        ({"stop_sequences": ["x"] * 17}, "stop_sequences", "invalid_value"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences", "invalid_value"),
        ({"service_tier": "priority"}, "service_tier", "invalid_value"),
        ({"metadata": {"colour": "red"}}, "metadata.colour", "unknown_field"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type", "invalid_value"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema", "missing_field"),
        ({"output_config": {"task_budget": 1}}, "output_config.task_budget", "unknown_field"),
        ({"output_format": {"type": "json_schema"}}, "output_format", "unsupported_parameter"),
        ({"container": "c"}, "container", "unsupported_parameter"),
        ({"mcp_servers": [{}]}, "mcp_servers", "unsupported_parameter"),
        ({"speed": "fast"}, "speed", "unsupported_parameter"),
        ({"inference_geo": "us"}, "inference_geo", "unsupported_parameter"),
        ({"context_management": CLEARS}, "context_management", "unsupported_parameter"),
        ({"context_management": {"edits": 5}}, "context_management", "unsupported_parameter"),
        ({"diagnostics": {"previous_message_id": "msg_1"}}, "diagnostics", "unsupported_parameter"),
        ({"thread": {"type": "create"}}, "thread", "thread_unsupported_request"),
        ({"stop": ["x"]}, "stop", "unknown_field"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": None}, "messages", "invalid_type"),
        ({"model": None}, "model", "invalid_type"),
    ],
)
def test_refused_by_name(fields: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read(**fields)
    assert (refused.value.body.param, refused.value.body.code) == (field, code)


BUDGET = {"type": "enabled", "budget_tokens": 1024}
BOUND = {"format": {"type": "json_schema", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"thinking": BUDGET}, (True, 1024, "", ())),
        ({"thinking": BUDGET, "output_config": {"effort": "max"}}, (True, 1024, "max", ())),
        ({"output_config": {"effort": "max"}}, (None, None, "max", ())),
        ({"thinking": BUDGET, "output_config": BOUND}, (True, 1024, "", ("thinking",))),
    ],
)
def test_what_engines_are_asked_for(fields: dict[str, Any], asked: object) -> None:
    body = read(max_tokens=2000, **fields)
    assert (body.thinking, body.reasoning_tokens, body.effort, body.needs_upstream) == asked


def test_a_count_needs_no_limit() -> None:
    body, given = decoder.decode(msgspec.json.encode({**BODY, "max_tokens": None}))
    counted = read_count(body, given)
    assert counted.prompts == (ChatPrompt((ChatMessage("user", "Hi"),)),)
    assert counted.params.max_tokens == 0
