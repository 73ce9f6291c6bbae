"""Recognises the events of a stream that equal an earlier one in all but the text, so that they need not be parsed.

A server's content events differ in the text only. Once one was parsed, each further event with the same bytes before
and after a text without escapes means the same, by the grammar of JSON strings (RFC 8259, section 7). Sans-IO.
"""

import re
from typing import Self

_BEFORE = b"data: "
_AFTER = b"\n\n"
_is_plain = re.compile(rb"[^\"\\\x00-\x1f]+").fullmatch
"""Whether JSON writes the text as it is."""


class EventTemplate:
    """Made `of` a parsed event; then `match` what arrives."""

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix = prefix
        self._suffix = suffix

    @classmethod
    def of(cls, event: bytes, text: str) -> Self | None:
        """`event`: the data of an event whose only content is `text`. None: it cannot be a template."""
        content = text.encode()
        if not _is_plain(content):
            return None
        # Some servers write a blank after a colon.
        name = b'"content":"' if b'"content":"' in event else b'"content": "'
        before, quoted, after = event.partition(b'%b%b"' % (name, content))
        if not quoted or content in after or b"\n" in event or b"\r" in event:
            return None
        return cls(_BEFORE + before + name, b'"' + after + _AFTER)

    def match(self, data: bytes) -> tuple[list[str], bytes]:
        """The texts of the complete events at the beginning of `data` that match, and the rest of `data`."""
        prefix, suffix = self._prefix, self._suffix
        end = data.rfind(suffix)
        if end < 0 or not data.startswith(prefix):
            return [], data
        between = suffix + prefix
        pieces = data[len(prefix) : end].split(between)
        if not all(pieces) or not _is_plain(b"".join(pieces)):
            pieces = _plain_ones(pieces, suffix)
        try:
            texts = list(map(bytes.decode, pieces))
        except UnicodeDecodeError:
            # A character that is split over two events.
            return [], data
        at = sum(map(len, pieces)) + len(pieces) * len(between)
        return texts, data[at:]


def _plain_ones(pieces: list[bytes], suffix: bytes) -> list[bytes]:
    """Those at the beginning that are plain text; another event may have followed the last of them."""
    plain: list[bytes] = []
    for piece in pieces:
        first, other, _ = piece.partition(suffix)
        if not _is_plain(first):
            break
        plain.append(first)
        if other:
            break
    return plain
