"""The parts of a message's content: texts, and images, sounds and files, which only some upstreams take."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from config.model.media import Medium

AUDIO_FORMATS: Mapping[str, str] = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mp4": "m4a",
}
"""The chat API's words for the media types of sounds."""


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A text."""

    text: str
    cache_control: dict[str, Any] | None = None
    """The client's mark that the prefix up to here is to be cached."""


class MediaPart(msgspec.Struct, frozen=True, tag="media", kw_only=True):
    """An image, a sound or a file: its content, or the address from which the upstream is to fetch it.

    Its `repr` shows neither.
    """

    medium: Medium
    where: str
    """The field of the body that contains it."""
    url: str = ""
    data: str = ""
    """The content in base64."""
    media_type: str = ""
    """Of the content."""
    size: int = 0
    """Of the content, in bytes."""
    digest: bytes
    """Of content or address."""
    detail: str | None = None
    """Of an image: how closely the model is to look at it."""
    name: str | None = None
    """Of a file."""
    cache_control: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"MediaPart({self.medium} {self.digest.hex()} {self.detail} {media_digest(self.name or '').hex()})"


ContentPart = TextPart | MediaPart


def media_digest(content: bytes | str) -> bytes:
    """Identifies a content or an address."""
    return blake2b(content.encode() if isinstance(content, str) else content, digest_size=16, person=b"media").digest()


def content_of(parts: Sequence[ContentPart], role: str) -> tuple[str, tuple[ContentPart, ...]]:
    """The text of a message, and its parts if it has more than that.

    Texts are separated by line ends, as vLLM does it for chat templates that take one text; those of an assistant are
    pieces of what it has written.
    """
    between = "" if role == "assistant" else "\n"
    text = between.join([part.text for part in parts if isinstance(part, TextPart)])
    is_plain = all(isinstance(part, TextPart) and part.cache_control is None for part in parts)
    return text, () if is_plain else tuple(parts)
