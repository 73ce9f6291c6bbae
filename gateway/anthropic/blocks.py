"""Content blocks that become parts of a message: texts, images and documents."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from actors.api.content import ContentPart, TextPart
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.json_body import converted
from gateway.openai.requests.media_part import by_address, by_content, no_file_id
from gateway.openai.requests.neutral import field_schema

Block = Mapping[str, Any]
"""A content block as JSON; its `type` decides which fields it may have."""
Content = str | list[dict[str, Any]]
_IMAGE_SOURCES = ("base64", "url")
_SOURCE_FIELDS = {"base64": "data", "url": "url", "text": "data", "content": "content"}
"""By type of a source: the field that it needs."""


class _TextBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    text: str
    cache_control: dict[str, Any] | None = None
    """For upstreams; engines cache prefixes without breakpoints."""
    citations: Any = None


class BlockSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the content of an image or a document is."""

    type: Annotated[str, field_schema(enum=list(_SOURCE_FIELDS))]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: Content | None = None
    file_id: Annotated[Any, field_schema(type="null")] = None


class _ImageBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    source: Annotated[BlockSource, field_schema(properties={"type": {"enum": list(_IMAGE_SOURCES)}})]
    cache_control: dict[str, Any] | None = None


class _DocumentBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    source: BlockSource
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


PART_KINDS: Mapping[str, type[msgspec.Struct]] = {"text": _TextBlock, "image": _ImageBlock, "document": _DocumentBlock}
"""Blocks by their `type`, for the API's description."""


def texts_of(where: str, content: Content) -> list[ContentPart]:
    """The parts of a content that is text only. Raises `BadField`."""
    if isinstance(content, str):
        return [TextPart(content)]
    return [text_of(f"{where}[{index}]", block) for index, block in enumerate(content)]


def parts_of(where: str, content: Content) -> list[ContentPart]:
    """The parts of a content that may have images and documents. Raises `BadField`."""
    if isinstance(content, str):
        return [TextPart(content)]
    return [part for index, block in enumerate(content) for part in block_parts(f"{where}[{index}]", block)]


def text_of(where: str, block: Block) -> TextPart:
    """Raises `BadField` if it is none."""
    kind = block.get("type")
    if kind != "text":
        if not isinstance(kind, str):
            raise fault(f"{where}.type", "must be a string, the kind of this content block.", "invalid_type")
        raise BadField(
            f"{where}.type", f"Content of type '{kind[:64]}' is not supported here.", "unsupported_parameter"
        )
    text = converted(block, _TextBlock, where)
    if text.citations:
        raise fault(f"{where}.citations", "is not supported: leave it out.", "unsupported_parameter")
    return TextPart(text.text, text.cache_control)


def block_parts(where: str, block: Block) -> Sequence[ContentPart]:
    """Raises `BadField`."""
    match block.get("type"):
        case "image":
            image = converted(block, _ImageBlock, where)
            return [_image(f"{where}.source", image)]
        case "document":
            return _document(where, converted(block, _DocumentBlock, where))
        case _:
            return [text_of(where, block)]


def _image(where: str, image: _ImageBlock) -> ContentPart:
    source, mark = image.source, image.cache_control
    given = _given(where, source, _IMAGE_SOURCES)
    if source.type == "url":
        return by_address("image", f"{where}.url", given, cache_control=mark)
    return by_content("image", f"{where}.data", given, source.media_type or "", cache_control=mark)


def _document(where: str, document: _DocumentBlock) -> Sequence[ContentPart]:
    """A text or blocks become parts that every model can read, below the document's title and context."""
    source, mark, at = document.source, document.cache_control, f"{where}.source"
    if document.citations is not None and document.citations.get("enabled"):
        raise fault(f"{where}.citations.enabled", "is not supported: leave it out.", "unsupported_parameter")
    given = _given(at, source, tuple(_SOURCE_FIELDS))
    head = "".join([f"{line}\n" for line in (document.title, document.context) if line])
    match source.type:
        case "base64":
            file = by_content(
                "file", f"{at}.data", given, source.media_type or "", name=document.title, cache_control=mark
            )
            return [*([TextPart(f"{document.context}\n")] if document.context else []), file]
        case "url":
            return [by_address("file", f"{at}.url", given, name=document.title, cache_control=mark)]
        case "text":
            return [TextPart(f"{head}{given}\n", mark)]
    parts = parts_of(f"{at}.content", source.content or "")
    if mark is not None and parts:
        parts[-1] = msgspec.structs.replace(parts[-1], cache_control=mark)
    return [*([TextPart(head)] if head else []), *parts]


def _given(where: str, source: BlockSource, kinds: Sequence[str]) -> str:
    """The content of a source, as far as it is a text. Raises `BadField`."""
    if source.type == "file":
        no_file_id(f"{where}.file_id", source.file_id or "")
    if source.type not in kinds:
        raise fault(f"{where}.type", f"must be one of {', '.join(kinds)}.", "unsupported_parameter")
    field = _SOURCE_FIELDS[source.type]
    value = getattr(source, field)
    if value is None:
        raise BadField(f"{where}.{field}", f"The field '{where}.{field}' is missing.", "missing_field")
    return value if isinstance(value, str) else ""
