"""The bounds of the images, sounds and files of a request, and how many tokens they are taken for."""

from actors.api.content import MediaPart
from actors.api.errors import InvalidRequest
from actors.api.request import ParsedBody
from config.model.media import MediaSettings


def media_tokens(body: ParsedBody, settings: MediaSettings) -> int:
    """Raises InvalidRequest, which names the field that is beyond a bound."""
    media = body.media
    if not media:
        return 0
    if len(media) > settings.max_parts:
        raise InvalidRequest(
            f"The conversation contains {len(media)} images, sounds and files together; this server takes at most "
            f"{settings.max_parts} (media.max_parts). Leave some out.",
            param=media[settings.max_parts].where,
            code="too_many_media",
        )
    for part in media:
        _check(part, settings)
    tokens = {"image": settings.image_tokens, "audio": settings.audio_tokens, "file": settings.file_tokens}
    return sum([tokens[part.medium] for part in media])


def _check(part: MediaPart, settings: MediaSettings) -> None:
    if part.size > settings.max_bytes:
        raise InvalidRequest(
            f"'{part.where}' has {part.size} bytes; one part may have at most {settings.max_bytes} "
            "(media.max_bytes). Send it smaller.",
            param=part.where,
            code="media_too_large",
        )
    if part.url and not settings.urls:
        raise InvalidRequest(
            f"'{part.where}' is an address, which this server does not pass on (media.urls): send the content in a "
            "data URL.",
            param=part.where,
            code="unsupported_parameter",
        )
