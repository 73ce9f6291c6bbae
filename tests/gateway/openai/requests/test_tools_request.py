"""Tools and grammars in a request's body, and tool calls in an answer's."""

import json
from typing import Any

import msgspec
import pytest

from actors.api.request import CallTurn, ParsedBody, View
from actors.api.response import Delta, Done, MadeCall, Start
from engine.messages import TokenLogprobs
from engine.sampling.grammar import MAX_CHARACTERS, Grammar
from engine.text.tool_calls import ToolSet
from gateway.endpoints.completions import CHAT, COMPLETION
from gateway.errors import HttpError
from gateway.openai.ws_messages import Renderer
from tests.gateway.fakes import SERVED, USAGE, FakeService
from tests.gateway.harness import CHAT as CHAT_BODY
from tests.gateway.harness import STREAM, events, gateway

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hot?"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True},
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
NAMED: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}


def chat(**fields: Any) -> ParsedBody:
    return CHAT.read(*CHAT.decoder.decode(msgspec.json.encode({**ASK, **fields})), 8)


def tools(**fields: Any) -> ToolSet | None:
    prompt = chat(**fields).prompts[0]
    return prompt.tools  # type: ignore[union-attr]


def test_tools_as_templates_and_grammars_want_them() -> None:
    offered = tools(tools=[WEATHER, CLOCK])
    assert offered is not None
    assert (offered.choice, offered.only, offered.parallel, offered.names) == ("auto", None, True, {"weather", "clock"})
    weather, clock = offered.tools
    assert weather.definition == {
        "type": "function",
        "function": {"name": "weather", "description": "d", "parameters": SCHEMA},
    }
    assert (weather.parameters, weather.strict, clock.strict) == (SCHEMA, True, False)
    assert clock.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert "description" not in clock.definition["function"]


def test_choices() -> None:
    assert tools(tools=[CLOCK], tool_choice="none") is None
    assert tools(tools=[], tool_choice="auto") is None
    required = tools(tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False)
    assert required is not None
    assert (required.choice, required.parallel) == ("required", False)
    named = tools(tools=[WEATHER, CLOCK], tool_choice=NAMED)
    assert named is not None
    assert (named.choice, named.only) == ("required", "clock")


def test_a_conversation_with_calls() -> None:
    said = {"id": "c1", "type": "function", "index": 0, "function": {"name": "clock", "arguments": '{"a": 1}'}}
    asked = chat(messages=[
        *ASK["messages"],
        {"role": "assistant", "content": None, "tool_calls": [said], "refusal": None, "function_call": None},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "now"}]},
    ])  # fmt: skip
    _, assistant, result = asked.prompts[0].messages  # type: ignore[union-attr]
    assert (assistant.content, assistant.tool_calls) == ("", (CallTurn("c1", "clock", {"a": 1}, text='{"a": 1}'),))
    assert (result.role, result.content, result.tool_call_id) == ("tool", "now", "c1")


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({"response_format": {"type": "json_object"}}, Grammar("json_schema", '{"type":"object"}')),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
            Grammar("json_schema", msgspec.json.encode(SCHEMA).decode(), True, "response_format.json_schema.schema"),
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
            Grammar("json_schema", '{"type":"object"}', False, "response_format.json_schema.schema"),
        ),
        ({"guided_json": '{"const": 1}'}, Grammar("json_schema", '{"const":1}', param="guided_json")),
        ({"guided_regex": "a+"}, Grammar("regex", "a+", param="guided_regex")),
        ({"guided_choice": ["a", "b"]}, Grammar("choice", '["a","b"]', param="guided_choice")),
        ({"guided_grammar": "start: A"}, Grammar("grammar", "start: A", param="guided_grammar")),
        ({"structured_outputs": {"regex": "a"}}, Grammar("regex", "a", param="structured_outputs.regex")),
        (
            {"structured_outputs": {"json_object": True}},
            Grammar("json_schema", '{"type":"object"}', param="structured_outputs"),
        ),
        ({"response_format": {"type": "text"}, "structured_outputs": {}}, None),
    ],
)
def test_grammars_at_both_endpoints(fields: dict[str, Any], grammar: Grammar | None) -> None:
    assert chat(**fields).grammar == grammar
    body = COMPLETION.decoder.decode(msgspec.json.encode({"model": "m", "prompt": "x", **fields}))
    assert COMPLETION.read(*body, 8).grammar == grammar


ASSISTANT = {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type", "must be a function"),
        ({"tools": [{"type": "function"}]}, "tools[0].type", "must be a function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "letters"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters",
            "object",
        ),
        ({"tools": [CLOCK, CLOCK]}, "tools", "same name"),
        ({"tools": [CLOCK] * 129}, "tools", "at most 128"),
        ({"tool_choice": "required"}, "tool_choice", "nothing to call"),
        ({"tool_choice": NAMED}, "tool_choice", "nothing to call"),
        ({"tools": [WEATHER], "tool_choice": NAMED}, "tool_choice", "not among"),
        ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice", "must be"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "must be"),
        ({"tools": [WEATHER], "guided_regex": "a"}, "guided_regex", "cannot be combined"),
        ({"messages": [{**ASSISTANT, "tool_calls": [{"id": "c"}]}]}, "messages[0].tool_calls[0].type", "function"),
        (
            {"messages": [{**ASSISTANT, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[]"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
            "JSON object",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "required in messages"),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
            "messages[0].tool_call_id",
            "does not name a call",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "tool_call_id": "c"}]},
            "messages[0].tool_call_id",
            "not allowed in others",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "x", "tool_calls": [{"id": "c", "function": CLOCK["function"]}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
            "missing",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "must hold"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": []}}}, None, "object"),
        ({"guided_json": "{"}, "guided_json", "JSON Schema"),
        ({"guided_choice": []}, "guided_choice", "1 to"),
        ({"guided_choice": ["a", ""]}, "guided_choice", "empty"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex", "contradict"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.regex", "contradict"),
        ({"structured_outputs": {"regx": "a"}}, "structured_outputs.regx", "Unrecognized"),
        ({"guided_regex": "a" * (MAX_CHARACTERS + 1)}, "guided_regex", "at most"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str | None, words: str) -> None:
    with pytest.raises(HttpError, match=words) as refused:
        chat(**fields)
    assert refused.value.body.status == 400
    assert param is None or refused.value.body.param == param


# --- answers ------------------------------------------------------------------------------------------------------

CALLS = (MadeCall(0, "call_a", "weather", '{"city": "Paris"}'), MadeCall(1, "call_b", "clock", "{}"))
WIRE = [
    {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
]
SCRIPT = [
    [Start("tests", "small", 5)],
    [Delta(0, "Well.", (1,)), Delta(0, "", (2, 3), (), "tool_calls", calls=CALLS)],
    [Done(USAGE, SERVED)],
]


async def test_a_whole_answer_with_calls() -> None:
    async with gateway(FakeService(lambda _: SCRIPT)) as running:
        client = await running.connect()
        choice = (await client.request("/v1/chat/completions", CHAT_BODY)).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {"role": "assistant", "content": "Well.", "refusal": None, "tool_calls": WIRE}


async def test_a_streamed_answer_with_calls() -> None:
    async with gateway(FakeService(lambda _: SCRIPT)) as running:
        client = await running.connect()
        response = await client.request("/v1/chat/completions", STREAM)
    *chunks, last = [each for each in events(response.body) if isinstance(each, dict)]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert [delta for delta in deltas if delta.get("content")] == [{"content": "Well."}]
    assert deltas[-1] == {"tool_calls": [{"index": index, **call} for index, call in enumerate(WIRE)]}
    assert last["choices"][0]["finish_reason"] == "tool_calls"


def test_text_and_calls_in_one_delta_keep_their_log_probabilities() -> None:
    from gateway.openai.responses.completion import ChatChunks, Identity

    chunks = ChatChunks(Identity("r", "m", 1, "fp"), View(), include_usage=False)
    chunks.opening(Delta(0, "", ()), "")
    sent = chunks.content(Delta(0, "Hi", (1,), (TokenLogprobs(1, -0.5, b"Hi"),), calls=CALLS[:1]))
    first, second = [json.loads(line[6:]) for line in sent.decode().strip().split("\n\n")]
    assert (first["choices"][0]["delta"], first["choices"][0]["logprobs"]) == ({"content": "Hi"}, None)
    assert second["choices"][0]["delta"]["tool_calls"][0]["id"] == "call_a"
    assert second["choices"][0]["logprobs"]["content"][0]["token"] == "Hi"


def test_calls_on_the_socket() -> None:
    sent = json.loads(Renderer("x", View(), lambda: None).token(Delta(0, "", (2,), (), "tool_calls", calls=CALLS)))
    assert sent["tool_calls"] == [{"index": index, **call} for index, call in enumerate(WIRE)]
    assert sent["finish_reason"] == "tool_calls"
    assert "tool_calls" not in json.loads(Renderer("x", View(), lambda: None).token(Delta(0, "a", (2,))))
