"""The official client, unmodified, against a real process."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.e2e.process import GatewayProcess

ASK: dict[str, Any] = {
    "model": "small",
    "messages": [{"role": "user", "content": "What is 17 + 25?"}],
    "max_tokens": 12,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}
COMPLETE: dict[str, Any] = {
    "model": "small",
    "prompt": "What is 17 + 25?",
    "max_tokens": 8,
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}


@pytest.fixture
def client(served: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["penstock", "small", "large"]
    assert client.models.retrieve("small").id == "small"


def test_streamed_and_whole_say_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == "length"
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert (
        "".join([each.choices[0].delta.content or "" for each in chunks if each.choices])
        == whole.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (whole.usage.prompt_tokens, 12)


@pytest.mark.parametrize("model", ["penstock", "large"])
def test_every_model_answers_and_says_who_did(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.with_raw_response.create(**{**ASK, "model": model})
    body = answer.parse()
    assert body.model_extra is not None
    served = body.model_extra["penstock"]
    assert answer.headers["x-penstock-rung"] == served["rung"]
    assert answer.headers["x-penstock-why"] == served["why"]
    assert served["rung"] in {"small", "large"}
    assert (served["margin"] is not None) == (model == "penstock")


def test_choices_and_seeds(client: openai.OpenAI) -> None:
    asked = {**ASK, "n": 3, "temperature": 1.0, "seed": 5}
    first, second = client.chat.completions.create(**asked), client.chat.completions.create(**asked)
    texts = [each.message.content for each in first.choices]
    assert [each.index for each in first.choices] == [0, 1, 2]
    assert texts == [each.message.content for each in second.choices]
    streamed: dict[int, str] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[index] for index in range(3)] == texts


def test_stop_strings_never_show(client: openai.OpenAI) -> None:
    text = client.completions.create(**COMPLETE).choices[0].text
    stop = text[3:5]
    stopped = client.completions.create(**COMPLETE, stop=stop).choices[0]
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(stop)], "stop")
    streamed = [
        each.choices[0].text for each in client.completions.create(**COMPLETE, stop=stop, stream=True) if each.choices
    ]
    assert "".join(streamed) == stopped.text


def test_logprobs(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=3).choices[0]
    assert chat.logprobs is not None
    assert chat.logprobs.content is not None
    assert len(chat.logprobs.content) == 12
    for position in chat.logprobs.content:
        assert position.top_logprobs[0].token == position.token
        assert len(position.top_logprobs) == 3
        assert position.logprob <= 0
    text = client.completions.create(**COMPLETE, logprobs=2).choices[0]
    assert text.logprobs is not None
    assert text.logprobs.tokens is not None
    assert len(text.logprobs.tokens) == 8


def test_prompts_of_every_kind(client: openai.OpenAI) -> None:
    one = client.completions.create(**COMPLETE).choices[0].text
    several = client.completions.create(**{**COMPLETE, "prompt": ["What is 17 + 25?", "Repeat: abc"]})
    assert [each.index for each in several.choices] == [0, 1]
    assert several.choices[0].text == one
    ids = client.completions.create(**{**COMPLETE, "prompt": [5, 6, 7]})
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3
    both = client.completions.create(**{**COMPLETE, "prompt": [[5, 6, 7], [8]], "n": 2})
    assert [each.text for each in both.choices][:2] == [ids.choices[0].text] * 2
    assert len(both.choices) == 4


@pytest.mark.parametrize(
    ("changes", "kind", "code"),
    [
        ({"model": "smal"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value"),
        ({"extra_body": {"temprature": 1}}, openai.BadRequestError, "unknown_field"),
        (
            {"messages": [{"role": "user", "content": "word " * 3000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        ({"response_format": {"type": "yaml"}}, openai.BadRequestError, "invalid_value"),
        ({"extra_body": {"guided_regex": "(a"}}, openai.BadRequestError, "grammar_invalid"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_the_client_s_types(
    client: openai.OpenAI, changes: dict[str, Any], kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    with pytest.raises(kind) as refused:
        client.chat.completions.create(**{**ASK, **changes}, stream=stream)
    assert refused.value.code == code
    assert refused.value.response.headers["x-should-retry"] == "false"
