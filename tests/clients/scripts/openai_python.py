"""OpenAI's client for Python: every API of its that is served."""

import json
import time
from functools import partial
from typing import Any, Literal

import openai
from pydantic import BaseModel, Field

from tests.clients.scripts.features import KEY, URL, refused, run

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
QUESTION: Any = [{"role": "user", "content": "What is 17 + 25?"}]
ASK: dict[str, Any] = {"model": "large", "messages": QUESTION, "max_tokens": 12, "temperature": 0}
RESPOND: dict[str, Any] = {"model": "large", "input": "What is 17 + 25?", "max_output_tokens": 30, "temperature": 0}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS, "strict": True}}


class Place(BaseModel):
    kind: Literal["city", "river"]
    name: str = Field(max_length=6)


def models() -> None:
    assert {"penstock", "small", "large", "mini"} <= {each.id for each in client.models.list()}
    assert client.models.retrieve("large").id == "large"


def chat() -> None:
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    said = "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert said == answer.choices[0].message.content
    assert chunks[-1].usage == answer.usage
    assert client.chat.completions.create(**{**ASK, "model": "penstock"}).choices[0].message.content


def chat_tools() -> None:
    turns = [{"role": "user", "content": "Weather in Paris?"}]
    asked = client.chat.completions.create(model="tools", messages=turns, tools=[TOOL]).choices[0]
    assert asked.finish_reason == "tool_calls"
    [call] = asked.message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    final = client.chat.completions.create(model="tools", messages=[*turns, asked.message, result], tools=[TOOL])
    assert final.choices[0].message.content == "The tool said: sunny"


def chat_parse() -> None:
    for model in ("small", "tools"):
        asked = {"model": model, "messages": QUESTION, "max_tokens": 200, "temperature": 0}
        answer = client.chat.completions.parse(**asked, response_format=Place)
        assert isinstance(answer.choices[0].message.parsed, Place)
        with client.chat.completions.stream(**asked, response_format=Place) as stream:
            stream.until_done()
            assert isinstance(stream.get_final_completion().choices[0].message.parsed, Place)


def chat_logprobs() -> None:
    choice = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2).choices[0]
    assert all(len(each.top_logprobs) == 2 for each in choice.logprobs.content)


def completions() -> None:
    asked = {"model": "large", "prompt": ["17 + 25 =", "2 + 2 ="], "max_tokens": 4, "temperature": 0}
    answer = client.completions.create(**asked, echo=True, logprobs=1)
    assert [each.text[:4] for each in answer.choices] == ["17 +", "2 + "]
    assert list(client.completions.create(**asked, stream=True))


def embeddings() -> None:
    [one] = client.embeddings.create(model="mini", input="hello").data
    [same] = client.embeddings.create(model="mini", input=["hello"], encoding_format="float").data
    assert one.embedding == same.embedding


def respond() -> None:
    whole = client.responses.create(**RESPOND)
    assert whole.output_text
    assert whole.status in {"completed", "incomplete"}
    events = list(client.responses.create(**RESPOND, stream=True))
    assert "".join(each.delta for each in events if each.type == "response.output_text.delta") == whole.output_text
    with client.responses.stream(**RESPOND) as stream:
        stream.until_done()
        assert stream.get_final_response().output_text == whole.output_text


def respond_tools() -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
    first = client.responses.create(model="tools", input="Weather in Paris?", tools=[tool])
    [call] = first.output
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    final = client.responses.create(model="tools", previous_response_id=first.id, input=[result], tools=[tool])
    assert final.output_text == "The tool said: sunny"


def respond_parse() -> None:
    for model in ("small", "tools"):
        made = client.responses.parse(
            model=model, input="Any place", text_format=Place, max_output_tokens=200, temperature=0
        )
        assert isinstance(made.output_parsed, Place)


def reasoning() -> None:
    made = client.responses.create(model="thinks", input="Hello")
    assert [each.type for each in made.output] == ["reasoning", "message"]
    assert made.output[0].content[0].text == "They ask something."
    answer = client.chat.completions.create(model="thinks", messages=QUESTION)
    assert answer.choices[0].message.model_extra["reasoning_content"] == "They ask something."


def stored() -> None:
    first = client.responses.create(**RESPOND)
    assert client.responses.retrieve(first.id) == first
    assert client.responses.create(**RESPOND, previous_response_id=first.id).previous_response_id == first.id
    assert [each.type for each in client.responses.input_items.list(first.id)] == ["message"]
    assert client.responses.input_tokens.count(model="large", input=RESPOND["input"]).input_tokens
    client.responses.delete(first.id)
    made = client.conversations.create(metadata={"topic": "sums"})
    client.responses.create(**RESPOND, conversation=made.id)
    assert len(list(client.conversations.items.list(made.id))) == 2
    assert client.conversations.delete(made.id).deleted


def background() -> None:
    begun = client.responses.create(**RESPOND, background=True)
    while client.responses.retrieve(begun.id).status in {"queued", "in_progress"}:
        time.sleep(0.05)
    events = list(client.responses.retrieve(begun.id, stream=True, starting_after=2))
    assert events[0].sequence_number == 3
    long = client.responses.create(**{**RESPOND, "max_output_tokens": 500}, background=True)
    assert client.responses.cancel(long.id).status in {"cancelled", "completed", "incomplete"}


def errors() -> None:
    for wrong, kind, param in (
        ({"model": "larg"}, openai.NotFoundError, "model"),
        ({"temperature": 3}, openai.BadRequestError, "temperature"),
    ):
        for ask, right in ((client.chat.completions.create, ASK), (client.responses.create, RESPOND)):
            assert refused(kind, partial(ask, **{**right, **wrong})).param == param


def images() -> str:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = {**ASK, "messages": [{"role": "user", "content": [part]}]}
    refused(openai.BadRequestError, lambda: client.chat.completions.create(**asked))
    return "engines read text only, and say so"


FEATURES = {
    "models": models,
    "chat, whole and streamed": chat,
    "chat, a loop with a tool": chat_tools,
    "chat, `parse` and `stream` with a class": chat_parse,
    "chat, log-probabilities": chat_logprobs,
    "completions": completions,
    "embeddings": embeddings,
    "responses, whole and streamed": respond,
    "responses, a loop with a tool": respond_tools,
    "responses, `parse`": respond_parse,
    "reasoning, on both": reasoning,
    "responses and conversations that are stored": stored,
    "responses in the background": background,
    "errors have the client's types": errors,
    "chat with an image, by an engine": images,
}

if __name__ == "__main__":
    run(FEATURES)
