"""Incremental detokenization that never emits part of a character."""

from codecs import getincrementaldecoder
from collections.abc import Container

from engine.text.token_bytes import SpellToken

_Utf8Decoder = getincrementaldecoder("utf-8")


class Detokenizer:
    """Text of one sequence's output.

    Decodes the tokens' bytes rather than strings: a character is emitted with its last byte, invalid bytes become
    U+FFFD at once, and the cost per token is constant. (`DecodeStream` of the tokenizers library holds back everything
    that ends in U+FFFD and decodes it again with each token, cannot be flushed, and strips a first space even after a
    prompt.)
    """

    def __init__(self, spell: SpellToken, special: Container[int], *, strip_first_space: bool) -> None:
        """Tokens in `special` have no text. `strip_first_space`: the output starts the text, see `TokenSpelling`."""
        self._spell = spell
        self._special = special
        self._strip = strip_first_space
        self._decoder = _Utf8Decoder("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; empty if it ends within a character."""
        if token_id in self._special:
            return ""
        spelled = self._spell(token_id)
        if self._strip and spelled:
            self._strip = False
            spelled = spelled.removeprefix(b" ")
        return self._decoder.decode(spelled)

    def flush(self) -> str:
        """End the output: U+FFFD if it ended within a character."""
        return self._decoder.decode(b"", final=True)
