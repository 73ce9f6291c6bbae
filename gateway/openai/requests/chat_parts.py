"""The parts of a chat message's content."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from actors.api.content import AUDIO_FORMATS, ContentPart, MediaPart, TextPart
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.media_part import FileName, NoFileId, by_address, by_content, no_file_id
from gateway.openai.requests.neutral import field_schema, read_as

REASONING_PARTS = frozenset({"thinking", "reasoning", "redacted_thinking"})
_KINDS = ("text", "image_url", "input_audio", "file")
_HAVE_MEDIA = frozenset({"user", "tool"})
_TYPES = {word: media_type for media_type, word in AUDIO_FORMATS.items()}


class ImageUrl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`image_url`."""

    url: str
    """An address, or `data:MEDIA/TYPE;base64,…`."""
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputAudio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`input_audio`."""

    data: Annotated[str, field_schema(contentEncoding="base64", minLength=1)]
    format: Annotated[str, field_schema(enum=list(_TYPES))]


class FileBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`file`."""

    file_data: Annotated[str | None, field_schema(minLength=1)] = None
    """Required: base64, a data URL, or an address."""
    file_id: NoFileId = None
    filename: FileName = None


class ChatPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One part of a message's content: text, an image, a sound or a file, or an assistant's reasoning."""

    type: Annotated[str, field_schema(enum=[*_KINDS, *sorted(REASONING_PARTS)])]
    text: str | None = None
    image_url: Annotated[Any, read_as(ImageUrl)] = None
    input_audio: Annotated[Any, read_as(InputAudio)] = None
    file: Annotated[Any, read_as(FileBody)] = None
    refusal: Any = None
    cache_control: dict[str, Any] | None = None
    """For upstreams; engines cache prefixes without marks."""
    prompt_cache_breakpoint: Any = None
    thinking: Any = None
    reasoning: Any = None
    summary: Any = None
    signature: Any = None
    data: Any = None
    closed: Any = None
    """The last six fields hold reasoning, as Mistral's and Anthropic's servers write it."""


def read_parts(where: str, role: str, parts: Sequence[ChatPart]) -> list[ContentPart]:
    """Without reasoning. Raises `BadField`."""
    read: list[ContentPart] = []
    for number, part in enumerate(parts):
        if part.type in REASONING_PARTS:
            continue
        at = f"{where}[{number}]"
        each = _read(at, part)
        if isinstance(each, MediaPart) and role not in _HAVE_MEDIA:
            raise fault(f"{at}.type", f"is allowed in messages of users and tools only, not in {role} messages.")
        read.append(each)
    return read


def audio_part(where: str, audio: InputAudio, **more: Any) -> MediaPart:
    """A sound, whose fields are below `where`. Raises `BadField`."""
    if audio.format not in _TYPES:
        raise fault(f"{where}.format", f"must be one of {', '.join(_TYPES)}.")
    return by_content("audio", f"{where}.data", audio.data, _TYPES[audio.format], **more)


def file_part(where: str, data: str, name: str | None, **more: Any) -> MediaPart:
    """A file: a data URL, base64, or an address. Raises `BadField`."""
    if data[:5].lower() == "data:" or "://" in data[:10]:
        return by_address("file", where, data, name=name, **more)
    return by_content("file", where, data, name=name, **more)


def _read(where: str, part: ChatPart) -> ContentPart:
    mark = part.cache_control
    match part.type:
        case "text":
            if part.text is None:
                raise _missing(f"{where}.text")
            return TextPart(part.text, mark)
        case "refusal":
            if not isinstance(part.refusal, str):
                raise _missing(f"{where}.refusal")
            return TextPart(part.refusal, mark)
        case "image_url":
            if part.image_url is None:
                raise _missing(f"{where}.image_url")
            image = converted(part.image_url, ImageUrl, f"{where}.image_url")
            return by_address("image", f"{where}.image_url.url", image.url, detail=image.detail, cache_control=mark)
        case "input_audio":
            if part.input_audio is None:
                raise _missing(f"{where}.input_audio")
            audio = converted(part.input_audio, InputAudio, f"{where}.input_audio")
            return audio_part(f"{where}.input_audio", audio, cache_control=mark)
        case "file":
            if part.file is None:
                raise _missing(f"{where}.file")
            file = converted(part.file, FileBody, f"{where}.file")
            no_file_id(f"{where}.file.file_id", file.file_id)
            if file.file_data is None:
                raise _missing(f"{where}.file.file_data")
            return file_part(f"{where}.file.file_data", file.file_data, file.filename, cache_control=mark)
        case _:
            raise BadField(
                f"{where}.type",
                f"Content of type '{part.type[:64]}' is not supported: a message may contain {', '.join(_KINDS[:-1])} "
                f"and {_KINDS[-1]}.",
                "unsupported_parameter",
            )


def _missing(field: str) -> BadField:
    return BadField(field, f"The field '{field}' is missing.", "missing_field")
