"""`/v1/decisions`: bodies as they are read."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ChatPrompt
from gateway.decisions.decision_request import AskedDecision, DecisionBody, read_decision
from gateway.errors import BadField
from gateway.openai.requests.json_body import BodyDecoder
from tests.media import PNG, data_url

PREDICATE = {"type": "predicate", "question": "Is it old?"}
IMAGE = {"type": "image_url", "image_url": {"url": data_url(PNG)}}
ASK: dict[str, Any] = {"model": "small", "input": "a ship", "decision": PREDICATE}


def read(**fields: Any) -> AskedDecision:
    given = {name: value for name, value in {**ASK, **fields}.items() if value is not None}
    return read_decision(BodyDecoder(DecisionBody).decode(msgspec.json.encode(given))[0])


def text_of(asked: AskedDecision) -> str:
    (prompt,) = asked.body.prompts
    assert isinstance(prompt, ChatPrompt)
    (message,) = prompt.messages
    assert message.role == "user"
    return message.content


def test_a_predicate() -> None:
    asked = read(user="eve", cache_salt="s")
    assert asked.body.weighed == asked.question.outcomes == ("yes", "no")
    assert (asked.body.user, asked.body.cache_salt, asked.body.thinking, asked.body.streamed) == (
        "eve",
        "s",
        False,
        False,
    )
    assert not asked.body.wants_vectors
    assert asked.body.embedding is not None
    assert asked.body.embedding.endpoint == "decisions"
    assert "a ship" in text_of(asked)


def test_a_choice() -> None:
    asked = read(decision={"type": "choice", "question": "Which?", "options": [" red", "dark blue"]})
    assert asked.body.weighed == ("red", "dark blue")


@pytest.mark.parametrize(
    ("ends", "outcomes"), [({}, "12345"), ({"min": 0, "max": 2}, "012"), ({"min": 7}, "78"), ({"max": 3}, "123")]
)
def test_a_score(ends: dict[str, int], outcomes: str) -> None:
    assert read(decision={"type": "score", "question": "How good?", **ends}).body.weighed == tuple(outcomes)


def test_a_conversation_is_one_text() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    assert "user: Hi\nassistant: Hello!" in text_of(read(input=None, messages=messages))


CHOICE = {"type": "choice", "question": "Which?"}
SCORE = {"type": "score", "question": "How?"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "input"),
        ({"input": None, "messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].image_url.url"),
        ({"input": ""}, "input"),
        ({"decision": None}, "decision"),
        ({"decision": {"type": "vote", "question": "?"}}, "decision.type"),
        ({"decision": {"type": "predicate", "question": " "}}, "decision.question"),
        ({"decision": {"type": "predicate"}}, "decision.question"),
        ({"decision": {**PREDICATE, "options": ["a", "b"]}}, "decision.options"),
        ({"decision": {**CHOICE, "min": 1, "options": ["a", "b"]}}, "decision.min"),
        ({"decision": CHOICE}, "decision.options"),
        ({"decision": {**CHOICE, "options": ["a"]}}, "decision.options"),
        ({"decision": {**CHOICE, "options": ["a", "a "]}}, "decision.options"),
        ({"decision": {**CHOICE, "options": ["a", ""]}}, "decision.options"),
        ({"decision": {**CHOICE, "options": list(map(str, range(65)))}}, "decision.options"),
        ({"decision": {**SCORE, "min": 5, "max": 5}}, "decision.max"),
        ({"decision": {**SCORE, "min": -1, "max": 5}}, "decision.max"),
        ({"decision": {**SCORE, "min": 0, "max": 64}}, "decision.max"),
        ({"decision": {**PREDICATE, "colour": 1}}, "decision.colour"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadField) as caught:
        read(**fields)
    assert caught.value.body.param == param
