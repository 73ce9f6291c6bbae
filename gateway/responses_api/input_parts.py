"""The parts of an item's content, as input."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from actors.api.content import ContentPart, TextPart
from gateway.errors import BadField
from gateway.openai.requests.chat_parts import InputAudio, audio_part, file_part
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.media_part import FileName, NoFileId, by_address, no_file_id
from gateway.openai.requests.neutral import field_schema, read_as

_TEXTS = {"input_text", "output_text", "text", "refusal"}
_MEDIA = {"input_image", "input_audio", "input_file"}


class Part(msgspec.Struct):
    """One part of a content. Annotations and log-probabilities of earlier answers are not read."""

    type: Annotated[str, field_schema(enum=sorted(_TEXTS | _MEDIA))]
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    """An address, or `data:MEDIA/TYPE;base64,…`."""
    detail: Literal["auto", "low", "high", "original"] | None = None
    input_audio: Annotated[Any, read_as(InputAudio)] = None
    file_data: str | None = None
    """Base64, a data URL, or an address."""
    file_url: str | None = None
    filename: FileName = None
    file_id: NoFileId = None


class ThoughtPart(msgspec.Struct):
    """One part of an earlier answer's reasoning."""

    type: str
    text: str | None = None


def text_of(where: str, content: str | Sequence[Part], *, between: str = "") -> str:
    """`between`: separates the parts. Raises `BadField` if there is something else than text."""
    if isinstance(content, str):
        return content
    return between.join([_text(f"{where}[{index}]", part) for index, part in enumerate(content)])


def parts_of(where: str, content: str | Sequence[Part]) -> list[ContentPart]:
    """Raises `BadField`."""
    if isinstance(content, str):
        return [TextPart(content)]
    return [_part(f"{where}[{index}]", part) for index, part in enumerate(content)]


def _part(where: str, part: Part) -> ContentPart:
    match part.type:
        case "input_image":
            no_file_id(f"{where}.file_id", part.file_id)
            if part.image_url is None:
                raise _missing(f"{where}.image_url")
            return by_address("image", f"{where}.image_url", part.image_url, detail=part.detail)
        case "input_audio":
            if part.input_audio is None:
                raise _missing(f"{where}.input_audio")
            audio = converted(part.input_audio, InputAudio, f"{where}.input_audio")
            return audio_part(f"{where}.input_audio", audio)
        case "input_file":
            no_file_id(f"{where}.file_id", part.file_id)
            if part.file_data is not None:
                return file_part(f"{where}.file_data", part.file_data, part.filename)
            if part.file_url is None:
                raise _missing(f"{where}.file_data")
            return by_address("file", f"{where}.file_url", part.file_url, name=part.filename)
        case _:
            return TextPart(_text(where, part))


def _text(where: str, part: Part) -> str:
    if part.type in _MEDIA:
        raise fault(f"{where}.type", "is allowed in messages of users and in outputs of tools only.")
    if part.type not in _TEXTS:
        raise BadField(
            f"{where}.type",
            f"Content of type '{part.type[:64]}' is not supported: a message may contain input_text, input_image, "
            "input_audio and input_file.",
            "unsupported_parameter",
        )
    name = "refusal" if part.type == "refusal" else "text"
    text: str | None = getattr(part, name)
    if text is None:
        raise _missing(f"{where}.{name}")
    return text


def _missing(field: str) -> BadField:
    return BadField(field, f"The field '{field}' is missing.", "missing_field")
