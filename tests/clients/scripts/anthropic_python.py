"""Anthropic's client for Python: messages, streams, tools and its tool runner."""

from typing import Any, Literal

import anthropic
from pydantic import BaseModel

from tests.clients.scripts.features import KEY, URL, refused, run

client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
QUESTION: Any = [{"role": "user", "content": "What is 17 + 25?"}]
ASK: dict[str, Any] = {"model": "large", "messages": QUESTION, "max_tokens": 20, "system": "Be brief."}
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Place(BaseModel):
    kind: Literal["city", "river"]
    name: str


def messages() -> None:
    whole = client.messages.create(**ASK)
    assert whole.content[0].text
    assert whole.usage.output_tokens
    with client.messages.stream(**ASK) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said == final.content[0].text
    assert [each.type for each in client.messages.create(**ASK, stream=True)][-1] == "message_stop"


def tools() -> None:
    turns: Any = [{"role": "user", "content": "Weather in Paris?"}]
    first = client.messages.create(model="tools", max_tokens=100, messages=turns, tools=[TOOL])
    assert first.stop_reason == "tool_use"
    [call] = first.content
    assert call.input == {"city": "Paris"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    turns += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    with client.messages.stream(model="tools", max_tokens=100, messages=turns, tools=[TOOL]) as stream:
        assert stream.get_final_text() == "The tool said: sunny"


def tool_runner() -> None:
    asked = []

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather.

        Args:
            city: its name
        """
        asked.append(city)
        return "sunny"

    runner = client.beta.messages.tool_runner(
        model="tools", max_tokens=100, tools=[get_weather], messages=[{"role": "user", "content": "Weather in Paris?"}]
    )
    assert runner.until_done().content[0].text == "The tool said: sunny"
    assert asked == ["Paris"]


def thinking() -> None:
    made = client.messages.create(model="thinks", max_tokens=100, messages=QUESTION)
    assert [each.type for each in made.content] == ["thinking", "text"]


def structured() -> None:
    made = client.messages.parse(model="tools", max_tokens=200, messages=QUESTION, output_format=Place)
    assert isinstance(made.parsed_output, Place)


def count_tokens() -> None:
    counted = client.messages.count_tokens(model="large", messages=QUESTION, system="Be brief.").input_tokens
    used = client.messages.create(**ASK).usage
    assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)


def models() -> None:
    assert "large" in {each.id for each in client.models.list()}


def errors() -> None:
    error = refused(anthropic.NotFoundError, lambda: client.messages.create(**{**ASK, "model": "larg"}))
    assert error.body["error"]["type"] == "not_found_error"


FEATURES = {
    "messages, whole and streamed": messages,
    "a loop with a tool": tools,
    "the client's tool runner": tool_runner,
    "thinking": thinking,
    "`parse` with a class": structured,
    "`count_tokens`": count_tokens,
    "models": models,
    "errors have the client's types": errors,
}

if __name__ == "__main__":
    run(FEATURES)
