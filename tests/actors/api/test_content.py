"""What a message contains, and what its parts show of themselves."""

import pytest

from actors.api.content import ContentPart, MediaPart, TextPart, content_of, media_digest

SECRET = "c2VjcmV0"
IMAGE = MediaPart(medium="image", where="w", data=SECRET, media_type="image/png", size=6, digest=media_digest("a"))
MARKED = TextPart("b", {"type": "ephemeral"})


@pytest.mark.parametrize(
    ("parts", "text", "kept"),
    [
        ([], "", False),
        ([TextPart("a"), TextPart("b")], "a\nb", False),
        ([TextPart("a"), MARKED], "a\nb", True),
        ([TextPart("a"), IMAGE, TextPart("b")], "a\nb", True),
        ([IMAGE], "", True),
    ],
)
def test_parts_are_kept_where_they_say_more_than_the_text(parts: list[ContentPart], text: str, kept: bool) -> None:
    assert content_of(parts, "user") == (text, tuple(parts) if kept else ())
    assert content_of(parts, "assistant")[0] == text.replace("\n", "")


def test_neither_content_nor_address_nor_name_is_shown() -> None:
    linked = MediaPart(
        medium="file", where="w", url="https://a.example/secret", name="secret", digest=media_digest("b")
    )
    shown = f"{IMAGE!r} {linked!r}"
    assert SECRET not in shown
    assert "secret" not in shown
    assert repr(IMAGE) != repr(MediaPart(medium="image", where="w", data="x", digest=media_digest("c")))
