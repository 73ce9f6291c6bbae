"""Recognises events that equal an earlier one in all but the text, so that they need not be decoded. Sans-IO.

What stands around the text was decoded once. The text is bytes that JSON writes as they are (RFC 8259, section 7), and
so cannot have ended the string: nothing else can be different in such an event.
"""

import re
from collections.abc import Sequence

_PLAIN = bytes([each for each in range(0x20, 0x7F) if each not in b'"\\'])
_SPECIAL = re.compile(r'["\\\x00-\x1f]')
_CONTENT = (b'"content":"', b'"content": "', b'"text":"', b'"text": "')
_CRLF = b"\r\n"
"""After a chunk's size, and after its data (RFC 9112, section 7.1)."""
_MOST_LENGTHS = 64


class KnownEvent:
    """`learn` from a decoded event; then look for its like by `text_in`, or in whole chunks by `texts_in_chunks`."""

    __slots__ = ("_after", "_before", "_chunk_after", "_chunk_heads")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nothing is alike."""
        self._before = self._after = self._chunk_after = b""
        self._chunk_heads: dict[int, bytes] = {}
        """By the length of a chunk: what it begins with."""

    def learn(self, event: bytes, text: str) -> None:
        """`event`: without its empty line; `text`: all that it brought, "" if that is not for sure."""
        self.forget()
        for name in _CONTENT if text else ():
            begin, found, rest = event.rpartition(name)
            if found and name not in begin:
                written, _, after = rest.partition(b'"')
                if written == text.encode():
                    self._before, self._after = begin + found, b'"' + after
                    self._chunk_after = self._after + b"\n\n" + _CRLF
                return

    def text_in(self, event: bytes) -> bytes | None:
        """The text of an event, without its empty line, that is alike; None: it has to be decoded."""
        if not self._before or not event.startswith(self._before) or not event.endswith(self._after):
            return None
        text = event[len(self._before) : -len(self._after)]
        return text if text and _is_plain(text) else None

    def texts_in_chunks(self, data: bytes) -> Sequence[bytes] | None:
        """The texts, if `data` is whole chunks of HTTP's chunked coding, each with one event that is alike."""
        after = self._chunk_after
        if not after or not data.endswith(after):
            return None
        head = self._chunk_heads.get(len(data)) or self._chunk_head(len(data))
        if data.startswith(head):  # one chunk
            text = data[len(head) : -len(after)]
            return (text,) if text and (not text.translate(None, _PLAIN) or _is_plain(text)) else None
        texts: list[bytes] = []
        heads, more = self._chunk_heads, len(after)
        for chunk in data.split(after)[:-1]:
            length = len(chunk) + more
            head = heads.get(length) or self._chunk_head(length)
            text = chunk[len(head) :]
            if not text or not chunk.startswith(head) or (text.translate(None, _PLAIN) and not _is_plain(text)):
                return None
            texts.append(text)
        return texts

    def _chunk_head(self, length: int) -> bytes:
        """What a chunk of this length begins with, if its event is alike: the size of its data, and what is before."""
        if len(self._chunk_heads) >= _MOST_LENGTHS:
            self._chunk_heads.clear()
        sizes = [max(length - 2 * len(_CRLF) - digits, 0) for digits in range(1, 9)]
        size = next((size for digits, size in enumerate(sizes, 1) if len(b"%x" % size) == digits), 0)
        head = self._chunk_heads[length] = b"%x\r\n%b" % (size, self._before)
        return head


def _is_plain(text: bytes) -> bool:
    """Whether JSON writes the text as these bytes."""
    if not text.translate(None, _PLAIN):
        return True
    try:
        return not _SPECIAL.search(text.decode())
    except UnicodeDecodeError:
        return False
