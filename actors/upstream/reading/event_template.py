"""Recognises the events of a stream that equal an earlier one in all but the text, so that they need not be parsed.

A server's content events differ in the text only. Once one was parsed, each further event with the same bytes before
and after a text without escapes means the same, by the grammar of JSON strings (RFC 8259, section 7). Sans-IO.
"""

import re

_BEFORE = b"data: "
_AFTER = b"\n\n"
_PLAIN = re.compile(r"[^\"\\\x00-\x1f]+")
"""Text that JSON writes as it is."""


class EventTemplate:
    """`learn` from a parsed event; then `match` what arrives."""

    def __init__(self) -> None:
        self._prefix = b""
        self._suffix = b""

    def __bool__(self) -> bool:
        return bool(self._prefix)

    def learn(self, event: bytes, text: str) -> None:
        """`event`: the data of an event whose only content is `text`."""
        if not _PLAIN.fullmatch(text):
            return
        before, quoted, after = event.partition(b'"content":"%b"' % text.encode())
        if quoted and text.encode() not in after and b"\n" not in event and b"\r" not in event:
            self._prefix = _BEFORE + before + b'"content":"'
            self._suffix = b'"' + after + _AFTER

    def match(self, data: bytes) -> tuple[list[str], bytes]:
        """The texts of the complete events at the beginning of `data` that match, and the rest of `data`."""
        prefix, suffix = self._prefix, self._suffix
        texts: list[str] = []
        at = 0
        while data.startswith(prefix, at):
            begin = at + len(prefix)
            end = data.find(suffix, begin)
            if end < 0:
                break
            try:
                text = data[begin:end].decode()
            except UnicodeDecodeError:
                break
            if not _PLAIN.fullmatch(text):
                break
            texts.append(text)
            at = end + len(suffix)
        return texts, data[at:] if at else data
