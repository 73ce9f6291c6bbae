"""Grammar-bound answers and tool calls through the official client. The models are random: only grammars make sense."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

MODELS = ["small", "large", "penstock"]
"""The small one's template does not know of tools, the large one's is Qwen's in spirit."""
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
BROKEN: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": 3}}}},
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Weather in Paris?"}],
    "max_tokens": 300,
    "temperature": 1.0,
    "seed": 4,
}


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str = Field(max_length=6)
    age: int = Field(ge=0, le=120)


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def check_call(name: str, arguments: str) -> None:
    value = json.loads(arguments)
    if name == "get_weather":
        assert value["city"] in {"Paris", "Rome"}
        assert 1 <= value["days"] <= 9
    else:
        assert (name, value) == ("clock", {})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_forced_calls(client: openai.OpenAI, model: str, choice: Any) -> None:
    asked = {**ASK, "model": model, "tools": [WEATHER, CLOCK], "tool_choice": choice}
    for seed in range(3):
        answer = client.chat.completions.create(**{**asked, "seed": seed}).choices[0]
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
        calls = answer.message.tool_calls
        assert calls
        assert len({call.id for call in calls}) == len(calls)
        for call in calls:
            assert call.type == "function"
            assert call.id.startswith("call_")
            check_call(call.function.name, call.function.arguments)
        if choice != "required":
            assert [call.function.name for call in calls] == ["get_weather"]


@pytest.mark.parametrize("model", MODELS)
def test_streamed_calls_are_the_same(client: openai.OpenAI, model: str) -> None:
    asked = {**ASK, "model": model, "tools": [WEATHER, CLOCK], "tool_choice": "required"}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls
    assert whole
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert [(call.function.name, call.function.arguments) for call in final.message.tool_calls or []] == [
        (call.function.name, call.function.arguments) for call in whole
    ]
    assert not final.message.content


@pytest.mark.sample(3)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_call_that_is_cut_off_shows_nothing_of_itself(client: openai.OpenAI, model: str, choice: Any) -> None:
    cut = 0
    for most in range(1, 60, 2):
        asked = {**ASK, "model": model, "tools": [WEATHER, CLOCK], "tool_choice": choice, "max_tokens": most}
        answer = client.chat.completions.create(**asked).choices[0]
        assert answer.message.content is None
        calls = answer.message.tool_calls or []
        for call in calls:
            check_call(call.function.name, call.function.arguments)  # type: ignore[union-attr]
        said, streamed, reason = "", 0, None
        for chunk in client.chat.completions.create(**asked, stream=True):
            said += chunk.choices[0].delta.content or ""
            streamed += len(chunk.choices[0].delta.tool_calls or [])
            reason = chunk.choices[0].finish_reason or reason
        assert (said, streamed, reason) == ("", len(calls), answer.finish_reason)
        cut += answer.finish_reason == "length"
    assert cut > 20


EMAIL = r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
UNSURE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mail": {"type": "string", "pattern": EMAIL, "maxLength": 5},
        "size": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["kind", "mail"],
    "additionalProperties": False,
}
PLACES = ["#/properties/mail/pattern", "#/properties/size/maximum"]
HEADER = "x-penstock-schema-passed-over"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_tool", [False, True])
def test_what_of_a_schema_is_passed_over_stands_in_a_header(
    served: GatewayProcess, stream: bool, as_tool: bool
) -> None:
    ask: dict[str, Any] = {**ASK, "model": "large", "stream": stream}
    if as_tool:
        function = {"name": "send", "parameters": UNSURE}
        ask |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        where = "tools.send"
    else:
        ask["response_format"] = {"type": "json_schema", "json_schema": {"name": "n", "schema": UNSURE}}
        where = "response_format.json_schema.schema"
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=ask, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    assert answer.headers[HEADER] == ", ".join(where + place for place in PLACES)
    if not stream:
        message = answer.json()["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        said = calls[0]["function"]["arguments"] if as_tool and calls else message["content"]
        if answer.json()["choices"][0]["finish_reason"] != "length":
            assert json.loads(said)["kind"] in {"a", "b"}
    # Who insists is refused with the places, and who asks for nothing of the kind reads nothing of it.
    if as_tool:
        ask["tools"][0]["function"]["strict"] = True
    else:
        ask["response_format"]["json_schema"]["strict"] = True
    refused = httpx.post(f"{served.url}/v1/chat/completions", json=ask, timeout=PATIENCE_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "grammar_invalid")
    assert PLACES[0] in refused.json()["error"]["message"]
    assert HEADER not in refused.headers
    plain = httpx.post(
        f"{served.url}/v1/chat/completions", json={**ASK, "model": "large", "max_tokens": 3}, timeout=PATIENCE_S
    )
    assert HEADER not in plain.headers


def test_one_call_if_parallel_ones_are_not_wanted(client: openai.OpenAI) -> None:
    asked = {**ASK, "model": "large", "tools": [CLOCK], "tool_choice": "required"}
    for seed in range(4):
        answer = client.chat.completions.create(**{**asked, "seed": seed}, parallel_tool_calls=False)
        assert len(answer.choices[0].message.tool_calls or []) == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_with_tools_goes_on(client: openai.OpenAI, model: str) -> None:
    """The message is appended as the client got it, the result after it; the model answers in text or calls again."""
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    first = client.chat.completions.create(**{**ASK, "model": model}, tools=[WEATHER], tool_choice=named)
    message = first.choices[0].message
    assert message.tool_calls
    messages: list[Any] = [
        *ASK["messages"],
        message.model_dump(),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"},
    ]
    asked: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}
    extra: dict[str, Any] = {"extra_body": {"ignore_eos": True}}
    with_tools = client.chat.completions.create(**asked, tools=[WEATHER], **extra)
    without = client.chat.completions.create(**asked, tools=[WEATHER], tool_choice="none", **extra)
    assert with_tools.usage is not None
    assert without.usage is not None
    assert with_tools.usage.prompt_tokens > without.usage.prompt_tokens > first.usage.completion_tokens  # type: ignore[union-attr]
    assert with_tools.choices[0].finish_reason == without.choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", MODELS)
def test_strict_tools_need_not_be_called(client: openai.OpenAI, model: str) -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    for seed in range(3):
        choice = client.chat.completions.create(
            **{**ASK, "model": model, "seed": seed, "max_tokens": 24}, tools=[strict]
        ).choices[0]
        assert choice.message.content or choice.message.tool_calls
        for call in choice.message.tool_calls or []:
            check_call(call.function.name, call.function.arguments)  # type: ignore[union-attr]


@pytest.mark.parametrize("model", MODELS)
def test_the_client_parses_what_a_schema_binds(client: openai.OpenAI, model: str) -> None:
    parsed = client.chat.completions.parse(**{**ASK, "model": model}, response_format=Person).choices[0]
    assert parsed.finish_reason == "stop"
    assert isinstance(parsed.message.parsed, Person)
    texts = []
    for chunk in client.chat.completions.create(
        **{**ASK, "model": model},
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "p", "schema": Person.model_json_schema(), "strict": True},
        },
        stream=True,
    ):
        texts += [choice.delta.content or "" for choice in chunk.choices]
    assert Person.model_validate_json("".join(texts)) == parsed.message.parsed


def test_any_json_object_with_choices_and_a_bias(client: openai.OpenAI) -> None:
    """The bias makes the model end what it opens."""
    answer = client.chat.completions.create(
        **{**ASK, "model": "small"},
        n=3,
        response_format={"type": "json_object"},
        logit_bias={"98": 100},
    )
    texts = [choice.message.content for choice in answer.choices]
    assert all(isinstance(json.loads(text or ""), dict) for text in texts)


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"guided_regex": "[0-9]{3}-[a-f]{2}"}, "[0-9]{3}-[a-f]{2}"),
        ({"guided_choice": ["yes", "no", "may\nbe"]}, "yes|no|may\nbe"),
        ({"guided_grammar": 'start: ("a" | "b"){2,4} "."'}, "[ab]{2,4}[.]"),
        ({"guided_grammar": 'root ::= "x" [0-9]'}, "x[0-9]"),
        ({"structured_outputs": {"regex": "z{2}"}}, "zz"),
        ({"structured_outputs": {"choice": ["one"]}}, "one"),
        ({"guided_json": {"enum": [1, 22]}}, "1|22"),
        ({"guided_json": '{"const": "k"}'}, '"k"'),
    ],
)
def test_the_fields_of_vllm_at_both_endpoints(client: openai.OpenAI, fields: dict[str, Any], pattern: str) -> None:
    asked: dict[str, Any] = {"model": "small", "max_tokens": 40, "temperature": 1.0, "extra_body": fields}
    chat = client.chat.completions.create(messages=ASK["messages"], **asked).choices[0]
    text = client.completions.create(prompt=["Say", "it"], n=2, **asked).choices
    assert re.fullmatch(pattern, chat.message.content or "")
    assert [choice.finish_reason for choice in (chat, *text)] == ["stop"] * 5
    assert all(re.fullmatch(pattern, choice.text) for choice in text)


@pytest.mark.parametrize("included", [False, True])
def test_choices_stops_and_a_grammar_together(client: openai.OpenAI, included: bool) -> None:
    """Each choice has a grammar of its own to follow, and ends where its own stop string does."""
    asked: dict[str, Any] = {
        "model": "small",
        "max_tokens": 60,
        "temperature": 1.0,
        "seed": 8,
        "stop": ["7", "42"],
        "logprobs": 1,
        "extra_body": {"guided_regex": "([0-9]{4}-){3}[0-9]{4}", "include_stop_str_in_output": included},
    }
    choices = client.completions.create(prompt=["a", "b"], n=3, **asked).choices
    assert len({choice.text for choice in choices}) >= 3, "choices differ"
    for choice in choices:
        before = choice.text
        for stop in ("42", "7"):
            before = before.removesuffix(stop) if included else before
        assert re.fullmatch(r"(\d{4}-){0,3}\d{0,4}", choice.text)
        assert "7" not in before
        assert "42" not in before
        assert choice.finish_reason == "stop"
    streamed: dict[int, str] = {}
    for chunk in client.completions.create(prompt=["a", "b"], n=3, stream=True, **asked):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + choice.text
    assert [streamed[choice.index] for choice in choices] == [choice.text for choice in choices]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"guided_regex": "(a"}, "grammar_invalid", "guided_regex"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "invalid_value", "guided_regex"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}},
            "grammar_invalid",
            "response_format.json_schema.schema",
        ),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "invalid_value",
            "tool_choice",
        ),
        ({"tools": [WEATHER], "guided_regex": "a"}, "invalid_value", "guided_regex"),
        ({"tools": [BROKEN], "tool_choice": "required"}, "grammar_invalid", "tools"),
    ],
)
def test_what_cannot_be_is_refused_before_it_costs(
    served: GatewayProcess, fields: dict[str, Any], code: str, param: str
) -> None:
    asked = {"model": "small", "messages": ASK["messages"], "max_tokens": 4, **fields}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=asked, timeout=PATIENCE_S)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
