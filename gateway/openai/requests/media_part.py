"""Images, sounds and files in a request's body: base64 and addresses, checked. Nothing is fetched here."""

import binascii
from typing import Annotated, Any
from urllib.parse import urlsplit

from actors.api.content import MediaPart, media_digest
from config.model.media import Medium
from gateway.errors import BadField
from gateway.openai.requests.fault import fault
from gateway.openai.requests.media_types import checked_type
from gateway.openai.requests.neutral import field_schema

_MAX_ADDRESS_CHARACTERS = 8192
_MAX_NAME_CHARACTERS = 256
FileName = Annotated[str | None, field_schema(maxLength=_MAX_NAME_CHARACTERS)]
NoFileId = Annotated[str | None, field_schema(enum=[None])]
"""The id of a file, which is refused: see `no_file_id`."""


def by_address(medium: Medium, where: str, url: str, **more: Any) -> MediaPart:
    """What `where` names by a `data:` URL with base64, or by an address of the web. Raises `BadField`."""
    if url[:5].lower() == "data:":
        head, comma, data = url[5:].partition(",")
        declared, *options = head.split(";")
        if not comma or "base64" not in [option.strip().lower() for option in options]:
            raise fault(where, 'must be "data:MEDIA/TYPE;base64,…" if it is a data URL.')
        return by_content(medium, where, data, declared.strip().lower(), **more)
    _check_address(where, url)
    return MediaPart(medium=medium, where=where, url=url, digest=media_digest(url), **_checked(where, more))


def by_content(medium: Medium, where: str, data: str, declared: str = "", **more: Any) -> MediaPart:
    """What `where` contains in base64. `declared`: its media type, as the client states it. Raises `BadField`."""
    try:
        content = binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError):
        raise fault(where, "must be base64, with padding and without line breaks.") from None
    if not content:
        raise fault(where, "is empty.")
    try:
        media_type = checked_type(medium, declared, content)
    except ValueError as error:
        raise fault(where, f"must contain {error}.") from None
    return MediaPart(
        medium=medium,
        where=where,
        data=data,
        media_type=media_type,
        size=len(content),
        digest=media_digest(content),
        **_checked(where, more),
    )


def no_file_id(where: str, file_id: object) -> None:
    """Raises `BadField` if a file is named by an id."""
    if file_id is not None:
        raise BadField(
            where,
            f"'{where}' is not supported: this server stores no files, and does not let tenants use those of an "
            "upstream's account. Send the content, or an address.",
            "unsupported_parameter",
        )


def _check_address(where: str, url: str) -> None:
    if len(url) > _MAX_ADDRESS_CHARACTERS:
        raise fault(where, f"must have at most {_MAX_ADDRESS_CHARACTERS} characters if it is an address.")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        raise fault(where, "must begin with http://, https:// or data:, and be a complete address.")
    if "@" in parts.netloc:
        raise fault(where, "must not contain a name or password for the address.")


def _checked(where: str, more: dict[str, Any]) -> dict[str, Any]:
    name = more.get("name")
    if name is not None and len(name) > _MAX_NAME_CHARACTERS:
        raise fault(where, f"must have a name of at most {_MAX_NAME_CHARACTERS} characters.")
    return more
