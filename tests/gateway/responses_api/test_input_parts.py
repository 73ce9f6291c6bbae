"""The parts of an item's content: each kind, and each fault."""

from typing import Any

import msgspec
import pytest

from actors.api.content import ContentPart, MediaPart, TextPart
from gateway.errors import BadField
from gateway.responses_api.input_parts import Part, parts_of, text_of
from tests.media import PDF, PNG, WAV, data_url, encoded


def read(*parts: dict[str, Any]) -> list[ContentPart]:
    return parts_of("input[0].content", msgspec.convert(parts, list[Part]))


def test_all_kinds() -> None:
    parts = read(
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": data_url(PNG), "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": encoded(WAV), "format": "wav"}},
        {"type": "input_file", "file_data": data_url(PDF, "application/pdf"), "filename": "a.pdf"},
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
    )
    assert parts[0] == TextPart("a")
    media = [part for part in parts if isinstance(part, MediaPart)]
    assert [part.medium for part in media] == ["image", "audio", "file", "file"]
    assert (media[0].detail, media[2].name, media[3].url) == ("low", "a.pdf", "https://a.example/a.pdf")
    assert media[0].where == "input[0].content[1].image_url"


@pytest.mark.parametrize(
    ("part", "param", "code"),
    [
        ({"type": "input_image"}, ".image_url", "missing_field"),
        ({"type": "input_image", "file_id": "file-1"}, ".file_id", "unsupported_parameter"),
        ({"type": "input_image", "image_url": "gopher://x"}, ".image_url", "invalid_value"),
        ({"type": "input_audio"}, ".input_audio", "missing_field"),
        ({"type": "input_file"}, ".file_data", "missing_field"),
        ({"type": "input_file", "file_id": "file-1"}, ".file_id", "unsupported_parameter"),
        ({"type": "input_text"}, ".text", "missing_field"),
        ({"type": "input_video"}, ".type", "unsupported_parameter"),
    ],
)
def test_the_field_at_fault_is_named(part: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read(part)
    assert (refused.value.body.param, refused.value.body.code) == (f"input[0].content[0]{param}", code)


def test_text_alone() -> None:
    assert text_of("x", [Part("output_text", "a"), Part("refusal", refusal="b")]) == "ab"
    with pytest.raises(BadField, match="users and in outputs of tools only"):
        text_of("x", [Part("input_image", image_url="https://a.example/")])
