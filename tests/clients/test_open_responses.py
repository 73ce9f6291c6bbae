"""Open Responses, the public specification of which OpenAI's Responses API is the origin: its acceptance tests.

The cases are those of the suite at https://www.openresponses.org/compliance, in our words; what a response must have
is the list of required fields of its `ResponseResource` (2026-04-24). docs/responses.md says what is left out.
"""

from typing import Any

import httpx
import msgspec
import pytest

from tests.clients.served import Served
from tests.patience import PATIENCE_S

NUMBERS = {
    "created_at": int,
    "temperature": (int, float),
    "top_p": (int, float),
    "presence_penalty": (int, float),
    "frequency_penalty": (int, float),
    "top_logprobs": int,
}
TEXTS = {"id": str, "object": str, "status": str, "model": str, "truncation": str, "service_tier": str}
OTHERS = {
    "output": list,
    "tools": list,
    "tool_choice": (str, dict),
    "parallel_tool_calls": bool,
    "text": dict,
    "store": bool,
    "background": bool,
    "metadata": dict,
}
MAY_BE_NULL = {
    "completed_at": int,
    "incomplete_details": dict,
    "previous_response_id": str,
    "instructions": str,
    "error": dict,
    "reasoning": dict,
    "user": str,
    "usage": dict,
    "max_output_tokens": int,
    "max_tool_calls": int,
    "safety_identifier": str,
    "prompt_cache_key": str,
}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def check(response: dict[str, Any]) -> None:
    """Each field that the specification requires, in its type."""
    for name, kind in {**NUMBERS, **TEXTS, **OTHERS}.items():
        assert isinstance(response[name], kind), name
    for name, kind in MAY_BE_NULL.items():
        assert response[name] is None or isinstance(response[name], kind), name
    for item in response["output"]:
        assert {"id", "type", "status"} <= item.keys()
    if response["status"] == "completed":
        assert response["completed_at"] >= response["created_at"]
        assert response["usage"].keys() >= {"input_tokens", "output_tokens", "total_tokens"}


def post(gateway: Served, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/responses", json={"model": "tools", **body}, timeout=PATIENCE_S)


def ask(gateway: Served, body: dict[str, Any]) -> dict[str, Any]:
    answer = post(gateway, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    response = answer.json()
    check(response)
    return response


WHOLE = {
    "basic-response": {"input": [turn("user", "Say hello in exactly 3 words.")]},
    "a text as input": {"input": "Say hello."},
    "system-prompt": {"input": [turn("system", "You are a pirate."), turn("user", "Say hello.")]},
    "multi-turn": {
        "input": [turn("user", "My name is Alice."), turn("assistant", "Hello Alice!"), turn("user", "Who am I?")]
    },
    "reasoning": {"model": "thinks", "input": "Hello"},
    "an engine": {"model": "large", "input": "What is 17 + 25?"},
}


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_a_response(gateway: Served, body: dict[str, Any]) -> None:
    response = ask(gateway, body)
    assert response["output"]
    assert response["status"] == "completed"


def test_a_function_is_called_and_its_result_is_read(gateway: Served) -> None:
    first = ask(gateway, {"input": "Weather in San Francisco?", "tools": [WEATHER]})
    [call] = first["output"]
    assert call["type"] == "function_call"
    assert msgspec.json.decode(call["arguments"]).keys() == {"location"}
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "64 degrees"}
    asked = {"tools": [WEATHER], "input": [turn("user", "Weather?"), *first["output"], result]}
    assert ask(gateway, asked)["status"] == "completed"
    second = ask(gateway, {"tools": [WEATHER], "input": [result], "previous_response_id": first["id"]})
    assert second["previous_response_id"] == first["id"]
    assert "64 degrees" in second["output"][0]["content"][0]["text"]


STREAMS = {
    "streaming-response": ({"input": [turn("user", "Count from 1 to 5.")]}, "response.output_text.delta"),
    "tool-calling-streaming": (
        {"input": "Weather?", "tools": [WEATHER]},
        "response.function_call_arguments.delta",
    ),
    "reasoning": ({"model": "thinks", "input": "Hello"}, "response.reasoning_text.delta"),
}


@pytest.mark.parametrize(("body", "delta"), STREAMS.values(), ids=STREAMS)
def test_a_stream(gateway: Served, body: dict[str, Any], delta: str) -> None:
    answer = post(gateway, {**body, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(msgspec.json.decode(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    kinds = [each["type"] for each in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert {delta, delta.replace(".delta", ".done")} <= set(kinds)
    check(events[0]["response"])
    check(events[-1]["response"])
    opened = [each["item"] for each in events if each["type"] == "response.output_item.added"]
    closed = [each["item"] for each in events if each["type"] == "response.output_item.done"]
    assert [each["id"] for each in opened] == [each["id"] for each in closed]
    assert {each["status"] for each in opened} == {"in_progress"}
    assert closed == events[-1]["response"]["output"]


PNG = "data:image/png;base64,AAAA"
REFUSED = {
    "image-input": {"model": "large", "input": [turn("user", [{"type": "input_image", "image_url": PNG}])]},
    "file-input": {
        "model": "large",
        "input": [turn("user", [{"type": "input_file", "filename": "a.pdf", "file_data": PNG}])],
    },
    "file-search": {"input": "Find it", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    "offline-web-search": {"input": "Find it", "tools": [{"type": "web_search", "external_web_access": False}]},
    "truncation": {"input": "Hello", "truncation": "auto"},
    "a model that there is not": {"model": "larg", "input": "Hello"},
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_not_served_is_refused_by_name(gateway: Served, body: dict[str, Any]) -> None:
    answer = post(gateway, body)
    assert answer.status_code in {400, 404}
    error = answer.json()["error"]
    assert error.keys() >= {"type", "code", "param", "message"}
    assert error["param"]
