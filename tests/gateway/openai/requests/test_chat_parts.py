"""The parts of a chat message: each kind, and each fault."""

from typing import Any

import msgspec
import pytest

from actors.api.content import ContentPart, MediaPart, TextPart
from gateway.errors import BadField
from gateway.openai.requests.chat_parts import ChatPart, read_parts
from tests.media import PDF, PNG, WAV, data_url, encoded

MARK = {"type": "ephemeral"}


def read(*parts: dict[str, Any], role: str = "user") -> list[ContentPart]:
    return read_parts("messages[0].content", role, msgspec.convert(parts, list[ChatPart]))


def image(url: str = "https://a.example/x.png", **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def sound(data: str, kind: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def test_text_and_marks() -> None:
    assert read({"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": MARK}) == [
        TextPart("a"),
        TextPart("b", MARK),
    ]
    assert read({"type": "thinking", "thinking": "hm"}, role="assistant") == []
    assert read({"type": "refusal", "refusal": "No."}, role="assistant") == [TextPart("No.")]


def test_media() -> None:
    parts = read(
        image(data_url(PNG), detail="high") | {"cache_control": MARK},
        {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
        {"type": "file", "file": {"file_data": data_url(PDF, "application/pdf"), "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": encoded(PDF)}},
        {"type": "file", "file": {"file_data": "https://a.example/a.pdf"}},
    )
    media = [part for part in parts if isinstance(part, MediaPart)]
    assert [(part.medium, part.media_type) for part in media] == [
        ("image", "image/png"),
        ("audio", "audio/wav"),
        ("file", "application/pdf"),
        ("file", "application/pdf"),
        ("file", ""),
    ]
    assert (media[0].detail, media[0].cache_control, media[2].name) == ("high", MARK, "a.pdf")
    assert media[1].where == "messages[0].content[1].input_audio.data"
    assert media[4].url == "https://a.example/a.pdf"


@pytest.mark.parametrize(
    ("part", "param", "code"),
    [
        ({"type": "text"}, ".text", "missing_field"),
        ({"type": "image_url"}, ".image_url", "missing_field"),
        ({"type": "image_url", "image_url": "https://a.example/"}, ".image_url", "invalid_type"),
        ({"type": "image_url", "image_url": {"detail": "low"}}, ".image_url.url", "missing_field"),
        (image(detail="huge"), ".image_url.detail", "invalid_type"),
        (image(size=1), ".image_url.size", "unknown_field"),
        (image("file:///x"), ".image_url.url", "invalid_value"),
        ({"type": "input_audio"}, ".input_audio", "missing_field"),
        (sound("", "pcm16"), ".input_audio.format", "invalid_value"),
        (sound(encoded(PNG)), ".input_audio.data", "invalid_value"),
        ({"type": "file"}, ".file", "missing_field"),
        ({"type": "file", "file": {"filename": "a"}}, ".file.file_data", "missing_field"),
        ({"type": "file", "file": {"file_id": "file-1"}}, ".file.file_id", "unsupported_parameter"),
        ({"type": "video_url"}, ".type", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(part: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read({"type": "text", "text": "a"}, part)
    assert (refused.value.body.param, refused.value.body.code) == (f"messages[0].content[1]{param}", code)


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_who_may_show_something(role: str) -> None:
    assert len(read(image(), role="tool")) == 1
    with pytest.raises(BadField, match="users and tools only"):
        read(image(), role=role)
