"""Number, size and addresses of what a conversation contains, and its estimated tokens."""

import pytest

from actors.api.content import MediaPart, media_digest
from actors.api.errors import InvalidRequest
from actors.api.request import ChatMessage, ChatPrompt, ParsedBody, TextPrompt
from actors.request.media_bounds import media_tokens
from config.model.media import MediaSettings, Medium
from config.model.table import Bytes
from engine.sampling.params import SamplingParams

SETTINGS = MediaSettings(max_parts=2, max_bytes=Bytes(10), image_tokens=7, audio_tokens=20, file_tokens=300)


def body(*parts: MediaPart) -> ParsedBody:
    messages = tuple([ChatMessage("user", "", parts=(part,)) for part in parts])
    return ParsedBody(model="m", prompts=(ChatPrompt(messages),), params=SamplingParams(max_tokens=1))


def part(where: str = "a", medium: Medium = "image", size: int = 10, url: str = "") -> MediaPart:
    return MediaPart(medium=medium, where=where, size=size, url=url, digest=media_digest(where))


def test_each_kind_has_its_estimate() -> None:
    assert media_tokens(body(), SETTINGS) == 0
    assert media_tokens(body(part(), part(medium="audio")), SETTINGS) == 27
    assert media_tokens(body(part(medium="file", url="https://a.example/")), SETTINGS) == 300
    text = ParsedBody(model="m", prompts=(TextPrompt("a"),), params=SamplingParams(max_tokens=1))
    assert media_tokens(text, SETTINGS) == 0


@pytest.mark.parametrize(
    ("parts", "settings", "param", "code", "why"),
    [
        ([part("a"), part("b"), part("c")], SETTINGS, "c", "too_many_media", "contains 3 .* at most 2"),
        ([part("a"), part("b", size=11)], SETTINGS, "b", "media_too_large", "11 bytes; .* at most 10"),
        (
            [part("a", url="https://a.example/")],
            MediaSettings(urls=False),
            "a",
            "unsupported_parameter",
            "send the content",
        ),
        ([part("a")], MediaSettings(max_parts=0), "a", "too_many_media", "at most 0"),
    ],
)
def test_beyond_a_bound_the_field_is_named(
    parts: list[MediaPart], settings: MediaSettings, param: str, code: str, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        media_tokens(body(*parts), settings)
    assert (refused.value.body.param, refused.value.body.code) == (param, code)
