"""What is told from the first bytes: each kind, and what is none."""

import pytest

from config.model.media import Medium
from gateway.openai.requests.media_types import checked_type
from tests.media import JPEG, PDF, PNG, WAV

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
RIGHT: list[tuple[Medium, str, bytes, str]] = [
    ("image", "", PNG, "image/png"),
    ("image", "image/png", PNG, "image/png"),
    ("image", "image/jpg", JPEG, "image/jpeg"),
    ("image", "", b"GIF89a....", "image/gif"),
    ("image", "image/webp", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
    ("image", "", b"BM......", "image/bmp"),
    ("image", "", b"MM\0*....", "image/tiff"),
    ("image", "image/avif", b"\0\0\0\x1cftypavif", "image/avif"),
    ("image", "image/heif", b"\0\0\0\x1cftypheic", "image/heic"),
    ("audio", "audio/wav", WAV, "audio/wav"),
    ("audio", "audio/mp3", b"ID3\x04....", "audio/mpeg"),
    ("audio", "", b"\xff\xfb\x90\x64", "audio/mpeg"),
    ("audio", "", b"fLaC....", "audio/flac"),
    ("audio", "audio/opus", b"OggS....", "audio/ogg"),
    ("audio", "audio/m4a", b"\0\0\0\x1cftypM4A ", "audio/mp4"),
    ("file", "application/pdf", PDF, "application/pdf"),
    ("file", "", PDF, "application/pdf"),
    ("file", "text/csv", b"a,b\n", "text/csv"),
    ("file", "application/json", b"{}", "application/json"),
    ("file", "", "Straße".encode(), "text/plain"),
    ("file", WORD, b"PK\x03\x04..", WORD),
]  # fmt: skip
WRONG: list[tuple[Medium, str, bytes, str]] = [
    ("image", "image/png", JPEG, "the image/png that it states, not image/jpeg"),
    ("image", "image/png", b"<svg></svg>", "its first bytes are of nothing that is known"),
    ("image", "", PDF, "an image: .* not application/pdf"),
    ("image", "", b"RIFF\0\0\0\0AVI LIST", "an image"),
    ("image", "", b"....WEBP....WEBP", "an image"),
    ("audio", "", PNG, "a sound: .* not image/png"),
    ("audio", "audio/wav", b"fLaC....", "the audio/wav that it states, not audio/flac"),
    ("file", "application/pdf", PNG, "the application/pdf that it states, not image/png"),
    ("file", "text/plain", b"\xff\xfe", "none of UTF-8"),
    ("file", "text/plain", b"a\0b", "none of UTF-8"),
    ("file", "application/x-msdownload", b"MZ..", "a PDF, .* not application/x-msdownload"),
    ("file", "", PNG, "a PDF, .* not image/png"),
    ("file", "application/zip", b"MZ..", "the application/zip that it states"),
]


@pytest.mark.parametrize(("medium", "declared", "content", "found"), RIGHT)
def test_each_kind_is_known(medium: Medium, declared: str, content: bytes, found: str) -> None:
    assert checked_type(medium, declared, content) == found


@pytest.mark.parametrize(("medium", "declared", "content", "why"), WRONG)
def test_something_else_is_refused(medium: Medium, declared: str, content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        checked_type(medium, declared, content)
