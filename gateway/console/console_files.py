"""The files of the console, read once."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

PAGE = "index.html"
_FOLDER = Path(__file__).parent / "files"
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""By the end of a file's name."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
"""Nothing inline, nothing from elsewhere, and no text that becomes markup: browsers refuse `innerHTML` and its like."""
HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of every file. `no-cache`: browsers keep it, and ask with its ETag whether it is current."""


class ConsoleFile(msgspec.Struct, frozen=True):
    """One file as it is sent."""

    content: bytes
    content_type: str
    etag: str
    """Of the content, without quotes."""


def console_files() -> Mapping[str, ConsoleFile]:
    """By path from their folder. Reads the package's files."""
    found = {}
    for path in _FOLDER.rglob("*.*"):
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()[:20]
        found[path.relative_to(_FOLDER).as_posix()] = ConsoleFile(content, CONTENT_TYPES[path.suffix], etag)
    return found
