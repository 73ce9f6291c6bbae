"""The bytes of each token, according to the decoder in tokenizer.json."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from engine.errors import ModelError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenSpelling:
    """How vocabulary entries spell bytes: byte-level BPE (GPT-2), or SentencePiece with byte fallback."""

    def __init__(self, decoder: dict[str, Any] | None) -> None:
        """`decoder`: the entry of that name in tokenizer.json. Raises ModelError: its type is not supported."""
        self._byte_level = False
        self._byte_fallback = False
        self._replacements: list[tuple[str, str]] = []
        self.strips_first_space = False
        """The space before the first word of a text is not part of the text."""
        steps = decoder["decoders"] if decoder and decoder["type"] == "Sequence" else [decoder]
        for step in steps:
            self._add(step or {"type": "none"})

    def _add(self, step: dict[str, Any]) -> None:
        match step:
            case {"type": "ByteLevel"}:
                self._byte_level = True
            case {"type": "ByteFallback"}:
                self._byte_fallback = True
            case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
                self._replacements.append((pattern, content))
            case {"type": "Metaspace", "replacement": str(pattern)}:
                self._replacements.append((pattern, " "))
                self.strips_first_space = step.get("prepend_scheme", "always") != "never"
            case {"type": "Strip", "content": " ", "start": int(start), "stop": 0}:
                self.strips_first_space = start > 0
            case {"type": "Fuse"}:
                pass
            case _:
                raise ModelError(
                    "tokenizer_unsupported",
                    f"tokenizer.json: decoder {step['type']} is not supported; byte-level BPE (ByteLevel) and "
                    "SentencePiece (Metaspace, Replace, ByteFallback, Fuse, Strip) are",
                )

    def spell(self, token: str) -> bytes:
        """The bytes of a vocabulary entry; not for added tokens, which stand for their own text."""
        if self._byte_level:
            alphabet = byte_level_alphabet()
            try:
                return bytes([alphabet[character] for character in token])
            except KeyError:
                return token.encode()
        if self._byte_fallback and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        for pattern, content in self._replacements:
            token = token.replace(pattern, content)
        return token.encode()


@cache
def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: printable Latin-1 is unchanged, other bytes map to U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(moved)}


SpellToken = Callable[[int], bytes]
"""Maps a token id to its bytes."""
