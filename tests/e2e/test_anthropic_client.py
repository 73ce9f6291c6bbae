"""Anthropic's official client, unmodified, against a real process."""

from collections.abc import Iterator
from typing import Any, Literal

import anthropic
import httpx
import pytest
import trio
from pydantic import BaseModel, ConfigDict

from tests.e2e.process import GatewayProcess
from tests.patience import PATIENCE_S

ASK: dict[str, Any] = {
    "model": "small",
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "max_tokens": 12,
    # Newer versions of the client have no parameter for it.
    "extra_body": {"temperature": 0},
}
BOUND: dict[str, Any] = {**ASK, "max_tokens": 300}
WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK: dict[str, Any] = {"name": "clock", "input_schema": {"type": "object", "additionalProperties": False}}


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: Literal["Paris", "Rome"]
    lives: bool


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="none", max_retries=0) as made:
        yield made


def text_of(message: anthropic.types.Message) -> str:
    return "".join([block.text for block in message.content if block.type == "text"])


def test_streamed_and_whole_say_the_same(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(**ASK)
    whole = raw.parse()
    assert (whole.type, whole.role, whole.model) == ("message", "assistant", "small")
    assert whole.id == f"msg_{raw.headers['request-id']}"
    with client.messages.stream(**ASK) as stream:
        kinds = [event.type for event in stream if event.type != "text"]
        streamed = stream.get_final_message()
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert text_of(streamed) == text_of(whole) != ""
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    inputs = [each.input_tokens + (each.cache_read_input_tokens or 0) for each in (whole.usage, streamed.usage)]
    assert inputs[0] == inputs[1] > 0


def test_chat_and_messages_give_the_same(client: anthropic.Anthropic, served: GatewayProcess) -> None:
    system = "Answer briefly."
    message = client.messages.create(**ASK, system=system)
    chat = httpx.post(
        f"{served.url}/v1/chat/completions",
        json={
            "model": "small",
            "max_tokens": 12,
            "temperature": 0,
            "messages": [{"role": "system", "content": system}, *ASK["messages"]],
        },
        timeout=PATIENCE_S,
    ).json()
    assert text_of(message) == chat["choices"][0]["message"]["content"]
    usage = message.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == chat["usage"]["prompt_tokens"]
    assert usage.output_tokens == chat["usage"]["completion_tokens"]
    counted = client.messages.count_tokens(model="small", messages=ASK["messages"], system=system)
    assert counted.input_tokens == chat["usage"]["prompt_tokens"]


@pytest.mark.parametrize("model", ["small", "large", "penstock"])
@pytest.mark.parametrize(
    "choice", [{"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "get_weather"}]
)
def test_forced_calls_and_their_results(client: anthropic.Anthropic, model: str, choice: Any) -> None:
    asked = {**BOUND, "model": model, "tools": [WEATHER, CLOCK]}
    answer = client.messages.create(**asked, tool_choice=choice)
    assert answer.stop_reason == "tool_use"
    with client.messages.stream(**asked, tool_choice=choice) as stream:
        streamed = stream.get_final_message()
    for message in (answer, streamed):
        calls = [block for block in message.content if block.type == "tool_use"]
        assert len({call.id for call in calls}) == len(calls) > 0
        for call in calls:
            if call.name == "get_weather":
                assert call.input["city"] in {"Paris", "Rome"}
                assert 1 <= call.input["days"] <= 9
            else:
                assert (call.name, call.input) == ("clock", {})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "sunny"}]}
        for block in answer.content
        if block.type == "tool_use"
    ]
    turns = [*ASK["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    told = client.messages.create(**{**asked, "messages": turns}, tool_choice={"type": "none"})
    assert told.stop_reason in {"end_turn", "max_tokens"}
    assert all(block.type == "text" for block in told.content)


def test_stop_sequences_are_named(client: anthropic.Anthropic) -> None:
    text = text_of(client.messages.create(**ASK))
    stop = text[len(text) // 2 :][:3]
    with client.messages.stream(**ASK, stop_sequences=["never said", stop]) as stream:
        streamed = stream.get_final_message()
    for message in (client.messages.create(**ASK, stop_sequences=["never said", stop]), streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)
        assert stop not in text_of(message)


def test_a_schema_binds_the_answer(client: anthropic.Anthropic) -> None:
    parsed = client.messages.parse(**BOUND, output_format=Person)
    assert isinstance(parsed.parsed_output, Person)


def test_models(client: anthropic.Anthropic) -> None:
    assert [each.id for each in client.models.list()] == ["penstock", "small", "large"]
    assert [each.id for each in client.models.list(limit=1)] == ["penstock", "small", "large"]
    assert client.models.retrieve("small").display_name == "small"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("none")


def test_errors_have_their_classes(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="temperature") as bad:
        client.messages.create(**{**ASK, "extra_body": {"temperature": 1.5}})
    assert bad.value.type == "invalid_request_error"
    assert bad.value.request_id == bad.value.body["request_id"]
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(**{**ASK, "model": "none"})
    assert unknown.value.type == "not_found_error"
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
    with pytest.raises(anthropic.BadRequestError, match="image"):
        client.messages.create(**{**ASK, "messages": [{"role": "user", "content": [image]}]})


def test_the_beta_client(client: anthropic.Anthropic) -> None:
    message = client.beta.messages.create(**ASK, betas=["some-beta"])
    assert text_of(message) == text_of(client.messages.create(**ASK))


def test_the_asynchronous_client(served: GatewayProcess) -> None:
    async def ask() -> tuple[anthropic.types.Message, str]:
        async with anthropic.AsyncAnthropic(base_url=served.url, auth_token="none", max_retries=0) as client:
            whole = await client.messages.create(**ASK)
            async with client.messages.stream(**ASK) as stream:
                return whole, "".join([text async for text in stream.text_stream])

    whole, streamed = trio.run(ask)
    assert text_of(whole) == streamed
