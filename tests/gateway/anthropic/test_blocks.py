"""Images and documents in messages: each source, and each fault."""

from typing import Any

import pytest

from actors.api.content import ContentPart, MediaPart, TextPart
from gateway.anthropic.blocks import parts_of
from gateway.errors import BadField
from tests.media import PDF, PNG, encoded

MARK = {"type": "ephemeral"}
PICTURE = {"type": "base64", "media_type": "image/png", "data": encoded(PNG)}
CITED = {"type": "text", "data": "a"}


def read(*blocks: dict[str, Any]) -> list[ContentPart]:
    return parts_of("messages[0].content", list(blocks))


def image(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "image", "source": source, **more}


def document(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


def test_images() -> None:
    first, second = read(image(PICTURE, cache_control=MARK), image({"type": "url", "url": "https://a.example/x"}))
    assert isinstance(first, MediaPart)
    assert isinstance(second, MediaPart)
    assert (first.medium, first.media_type, first.data, first.cache_control) == (
        "image",
        "image/png",
        PICTURE["data"],
        MARK,
    )
    assert (first.where, second.where) == ("messages[0].content[0].source.data", "messages[0].content[1].source.url")
    assert second.url == "https://a.example/x"


def test_documents() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)}
    context, file = read(document(pdf, title="A report", context="Of 2026.", citations={"enabled": False}))
    assert context == TextPart("Of 2026.\n")
    assert isinstance(file, MediaPart)
    assert (file.medium, file.media_type, file.name) == ("file", "application/pdf", "A report")
    (linked,) = read(document({"type": "url", "url": "https://a.example/x.pdf"}))
    assert isinstance(linked, MediaPart)
    assert (linked.medium, linked.url) == ("file", "https://a.example/x.pdf")


def test_documents_of_text_can_be_read_by_every_model() -> None:
    text = {"type": "text", "media_type": "text/plain", "data": "Once."}
    assert read(document(text, title="Tale", cache_control=MARK)) == [TextPart("Tale\nOnce.\n", MARK)]
    inner = {"type": "content", "content": [{"type": "text", "text": "a"}, image(PICTURE)]}
    title, said, shown = read(document(inner, title="T", cache_control=MARK))
    assert (title, said) == (TextPart("T\n"), TextPart("a"))
    assert isinstance(shown, MediaPart)
    assert (shown.cache_control, shown.where) == (MARK, "messages[0].content[0].source.content[1].source.data")


@pytest.mark.parametrize(
    ("block", "param", "code"),
    [
        ({"type": "image"}, ".source", "missing_field"),
        (image({"type": "base64", "media_type": "image/png"}), ".source.data", "missing_field"),
        (image({"type": "url"}), ".source.url", "missing_field"),
        (image({"type": "text", "data": "a"}), ".source.type", "unsupported_parameter"),
        (image({"type": "file", "file_id": "file_1"}), ".source.file_id", "unsupported_parameter"),
        (image({**PICTURE, "media_type": "image/gif"}), ".source.data", "invalid_value"),
        (image(PICTURE, title="a"), ".title", "unknown_field"),
        (document({"type": "file", "file_id": "file_1"}), ".source.file_id", "unsupported_parameter"),
        (document(CITED, citations={"enabled": True}), ".citations.enabled", "unsupported_parameter"),
        ({"type": "search_result"}, ".type", "unsupported_parameter"),
        ({"type": None}, ".type", "invalid_type"),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(block: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadField) as refused:
        read(block)
    assert (refused.value.body.param, refused.value.body.code) == (f"messages[0].content[0]{param}", code)
