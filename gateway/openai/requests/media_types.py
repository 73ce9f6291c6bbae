"""What an image, a sound or a file is, by its first bytes."""

from collections.abc import Mapping

from config.model.media import Medium

_RIFF_KIND = 8
"""Where a RIFF file says of which kind it is."""
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (_RIFF_KIND, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftypmif1", "image/heic"),
    (_RIFF_KIND, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"OggS", "audio/ogg"),
    (4, b"ftypM4A", "audio/mp4"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
)
"""(Offset, bytes there, media type)."""
_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/heif": "image/heic",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/opus": "audio/ogg",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
}
_KINDS: Mapping[Medium, str] = {
    "image": "an image: PNG, JPEG, GIF, WebP, BMP, TIFF, AVIF or HEIC",
    "audio": "a sound: WAV, MP3, FLAC, Ogg or M4A",
    "file": "a PDF, a text in UTF-8, or an Office document",
}
_TEXTS = ("text/", "application/json", "application/xml", "application/yaml", "application/javascript")
_DOCUMENTS = (
    "application/vnd.openxmlformats-officedocument.",
    "application/vnd.oasis.opendocument.",
    "application/zip",
)


def checked_type(medium: Medium, declared: str, content: bytes) -> str:
    """The media type of `content`. `declared`: what the client says that it is; "": nothing.

    Raises ValueError, whose text goes on after "must contain": it is none that this medium may be, or another one than
    declared.
    """
    declared = _ALIASES.get(declared, declared)
    found = _found(content)
    if medium == "file":
        return _file_type(declared, found, content)
    if not found.startswith(f"{medium}/"):
        raise ValueError(f"{_KINDS[medium]}{_but(found)}")
    if declared not in {"", found}:
        raise ValueError(f"the {declared[:64]} that it states, not {found}")
    return found


def _file_type(declared: str, found: str, content: bytes) -> str:
    if found == "application/pdf" and declared in {"", found}:
        return found
    if found == "application/zip" and declared.startswith(_DOCUMENTS):
        return declared
    if declared.startswith(_TEXTS) or (not declared and not found):
        if not _is_text(content):
            raise ValueError(f"{_KINDS['file']}, and its bytes are none of UTF-8")
        return declared or "text/plain"
    if declared == "application/pdf" or declared.startswith(_DOCUMENTS):
        raise ValueError(f"the {declared[:100]} that it states{_but(found)}")
    raise ValueError(f"{_KINDS['file']}{_but(declared or found)}")


def _found(content: bytes) -> str:
    """By its first bytes; "": unknown."""
    head = content[:16]
    for offset, signature, media_type in _SIGNATURES:
        if head.startswith(signature, offset) and (offset != _RIFF_KIND or head.startswith(b"RIFF")):
            return media_type
    return ""


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _but(found: str) -> str:
    return f", not {found[:64]}" if found else ", and its first bytes are of nothing that is known here"
