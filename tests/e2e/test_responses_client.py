"""`/v1/responses` by the official client, unmodified, against a real process. The models are random."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.e2e.process import GatewayProcess, until
from tests.gateway.responses_api.test_event_renderer import MODELS

QUESTION = "What is 17 + 25?"
GREEDY: dict[str, Any] = {"temperature": 0, "extra_body": {"ignore_eos": True}}
ASK: dict[str, Any] = {"model": "small", "input": QUESTION, "max_output_tokens": 12, **GREEDY}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
RUN: dict[str, Any] = {
    "type": "custom",
    "name": "run",
    "format": {"type": "grammar", "syntax": "regex", "definition": "ls|pwd"},
}


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("model", ["small", "penstock"])
def test_the_same_question_gets_the_same_answer_as_in_chat(client: openai.OpenAI, config: Path, model: str) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    chat = client.chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=12, **GREEDY)
    response = client.responses.with_raw_response.create(**{**ASK, "model": model})
    said, body = chat.parse(), response.parse()
    assert said.usage is not None
    assert body.usage is not None
    assert body.output_text == said.choices[0].message.content
    assert (body.status, body.incomplete_details and body.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert (body.usage.input_tokens, body.usage.output_tokens) == (said.usage.prompt_tokens, 12)
    assert response.headers["x-penstock-rung"] == chat.headers["x-penstock-rung"]
    ids = [each.headers["x-request-id"] for each in (chat, response)]
    with sqlite3.connect(config.parent / "ledger.sqlite3") as ledger:
        ask = (
            "SELECT tenant, route, rung, outcome, prompt_tokens, completion_tokens, cost FROM requests"
            " WHERE request_id = ? AND outcome IS NOT NULL"
        )
        until(lambda: all(len(ledger.execute(ask, (each,)).fetchall()) == 1 for each in ids))
        first, second = [ledger.execute(ask, (each,)).fetchone() for each in ids]
    assert first == second


def test_a_stream_is_the_whole_response_in_parts(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASK)
    events = list(client.responses.create(**ASK, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    for event in events:
        assert type(event) is MODELS[event.type]
    assert [event.type for event in events[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert [event.type for event in events[-4:]] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.output_text == whole.output_text
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert last.response.usage == whole.usage


def test_log_probabilities(client: openai.OpenAI) -> None:
    response = client.responses.create(**ASK, include=["message.output_text.logprobs"], top_logprobs=2)
    part = response.output[0].content[0]  # type: ignore[union-attr]
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert "".join([each.token for each in part.logprobs]) == response.output_text
    assert all(len(each.top_logprobs) == 2 for each in part.logprobs)


@pytest.mark.parametrize("model", ["small", "large", "penstock"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop(client: openai.OpenAI, model: str, stream: bool) -> None:
    ask: dict[str, Any] = {"model": model, "tools": [WEATHER, RUN], "max_output_tokens": 200}
    items: list[Any] = [{"role": "user", "content": "Weather in Paris?"}]
    for choice, kind in (("get_weather", "function"), ("run", "custom")):
        asked = {**ask, "input": items, "tool_choice": {"type": kind, "name": choice}, "extra_body": {"seed": 4}}
        if stream:
            with client.responses.stream(**asked) as events:
                for _ in events:
                    pass
                response: Any = events.get_final_response()
        else:
            response = client.responses.create(**asked)
        assert response.status == "completed"
        [call] = response.output
        assert (call.type, call.name) == (f"{kind}_call" if kind == "function" else "custom_tool_call", choice)
        items += response.output
        if call.type == "function_call":
            assert json.loads(call.arguments)["city"] in {"Paris", "Rome"}
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
        else:
            assert call.input in {"ls", "pwd"}
            items.append({"type": "custom_tool_call_output", "call_id": call.call_id, "output": "a b"})
    final = client.responses.create(**{**ask, "input": items, "max_output_tokens": 8, "tool_choice": "none"})
    assert final.output_text


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str = Field(max_length=6)
    age: int = Field(ge=0, le=120)


@pytest.mark.parametrize("model", ["small", "penstock"])
def test_structured_output(client: openai.OpenAI, model: str) -> None:
    response = client.responses.parse(
        model=model, input="Anyone", text_format=Person, max_output_tokens=200, extra_body={"seed": 3}
    )
    assert isinstance(response.output_parsed, Person)
    plain = client.responses.create(
        model=model, input="Anyone", text={"format": {"type": "json_object"}}, max_output_tokens=100
    )
    if plain.status == "completed":
        assert isinstance(json.loads(plain.output_text), dict)


@pytest.mark.parametrize(
    ("changes", "kind", "code", "param"),
    [
        ({"model": "smal"}, openai.NotFoundError, "model_not_found", "model"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value", "temperature"),
        ({"extra_body": {"max_token": 1}}, openai.BadRequestError, "unknown_field", "max_token"),
        ({"input": "word " * 3000}, openai.BadRequestError, "context_length_exceeded", "input"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "unsupported_parameter", "tools[0].type"),
        ({"reasoning": {"effort": "high"}}, openai.BadRequestError, "unsupported_parameter", "reasoning.effort"),
    ],
)
def test_errors_have_the_client_s_types(
    client: openai.OpenAI, changes: dict[str, Any], kind: type[openai.APIStatusError], code: str, param: str
) -> None:
    for stream in (False, True):
        with pytest.raises(kind) as refused:
            client.responses.create(**{**ASK, **changes}, stream=stream)
        assert (refused.value.code, refused.value.param) == (code, param)


def test_a_conversation_by_previous_response_id(client: openai.OpenAI) -> None:
    first = client.responses.create(**ASK)
    assert client.responses.retrieve(first.id) == first
    second = client.responses.create(**{**ASK, "input": "And 1?"}, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    items: Any = [{"role": "user", "content": QUESTION}, *first.output, {"role": "user", "content": "And 1?"}]
    alone = client.responses.create(**{**ASK, "input": items}, store=False)
    assert (alone.output_text, alone.usage and alone.usage.input_tokens) == (
        second.output_text,
        second.usage and second.usage.input_tokens,
    )
    listed = list(client.responses.input_items.list(second.id, order="asc"))
    assert [item.type for item in listed] == ["message"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(alone.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"


def test_a_background_response_is_resumed(client: openai.OpenAI) -> None:
    begun = client.responses.create(**ASK, background=True)
    assert begun.status in {"queued", "in_progress"}
    until(lambda: client.responses.retrieve(begun.id).status == "incomplete")
    events = list(client.responses.create(**ASK, background=True, stream=True))
    created = events[0]
    assert created.type == "response.created"
    rest = list(client.responses.retrieve(created.response.id, stream=True, starting_after=5))
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in events[6:]]
    long = client.responses.create(**{**ASK, "max_output_tokens": 400}, background=True)
    cancelled = client.responses.cancel(long.id)
    # On a machine that pauses, it may have ended before.
    assert cancelled.status in {"cancelled", "incomplete"}
    assert client.responses.retrieve(long.id) == cancelled


def test_a_conversation(client: openai.OpenAI) -> None:
    made = client.conversations.create(
        metadata={"topic": "sums"}, items=[{"type": "message", "role": "developer", "content": "Be brief."}]
    )
    assert client.conversations.retrieve(made.id) == made
    first = client.responses.create(**ASK, conversation=made.id)
    assert first.conversation is not None
    assert first.conversation.id == made.id
    second = client.responses.create(**{**ASK, "input": "And 1?"}, conversation={"id": made.id})
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
        *first.output,
        {"role": "user", "content": "And 1?"},
    ]
    alone = client.responses.create(**{**ASK, "input": items}, store=False)
    assert (alone.output_text, alone.usage and alone.usage.input_tokens) == (
        second.output_text,
        second.usage and second.usage.input_tokens,
    )
    counted = client.responses.input_tokens.count(model="small", input=items)
    assert alone.usage is not None
    assert counted.input_tokens == alone.usage.input_tokens
    listed = list(client.conversations.items.list(made.id, order="asc", limit=2))
    assert [getattr(item, "role", None) for item in listed] == ["developer", "user", "assistant", "user", "assistant"]
    item = client.conversations.items.retrieve(listed[1].id or "", conversation_id=made.id)
    assert item == listed[1]
    client.conversations.items.delete(listed[1].id or "", conversation_id=made.id)
    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "Well?"}])
    assert [each.type for each in added.data] == ["message"]
    assert len(list(client.conversations.items.list(made.id))) == 5
    assert client.conversations.update(made.id, metadata={"topic": "more"}).metadata == {"topic": "more"}
    assert client.conversations.delete(made.id).deleted
    for ask in (
        lambda: client.conversations.retrieve(made.id),
        lambda: client.responses.create(**ASK, conversation=made.id),
    ):
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        assert missing.value.code == "conversation_not_found"
