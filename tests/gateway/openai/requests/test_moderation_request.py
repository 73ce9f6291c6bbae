"""`/v1/moderations`: bodies as they are read."""

from typing import Any

import msgspec
import pytest

from actors.api.request import ParsedBody, TextPrompt
from gateway.errors import BadField
from gateway.openai.requests.json_body import BodyDecoder
from gateway.openai.requests.moderation_request import ModerationBody, read_moderation

IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def read(given: Any) -> ParsedBody:
    return read_moderation(BodyDecoder(ModerationBody).decode(msgspec.json.encode({"input": given}))[0], "toxic", 2)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a\nb"]),
    ],
)
def test_a_text_for_each_result(given: Any, texts: list[str]) -> None:
    body = read(given)
    assert body.prompts == tuple(map(TextPrompt, texts))
    assert (body.model, body.wants_vectors) == ("toxic", True)
    assert body.embedding is not None
    assert (body.embedding.scores, body.embedding.endpoint) == ("any", "moderations")


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ([], "input", "invalid_value"),
        (["a", "b", "c"], "input", "invalid_value"),
        (["a", {"type": "text", "text": "b"}], "input", "invalid_type"),
        ([{"type": "text", "text": "a"}, IMAGE], "input[1].type", "unsupported_parameter"),
        ([{"type": "text"}], "input[0].text", "invalid_type"),
        (5, "input", "invalid_type"),
    ],
)
def test_what_is_wrong_is_named(given: Any, param: str, code: str) -> None:
    with pytest.raises(BadField) as caught:
        read(given)
    assert (caught.value.body.param, caught.value.body.code) == (param, code)
