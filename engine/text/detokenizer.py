"""Text from tokens as they come, never with half a character."""

from codecs import getincrementaldecoder
from collections.abc import Container

from engine.text.token_bytes import SpellToken

_Utf8Decoder = getincrementaldecoder("utf-8")


class Detokenizer:
    """The text of one sequence's output.

    Works on the tokens' bytes, not on decoded strings: a character is shown as soon as its last byte is there, bytes
    that can never become one turn into U+FFFD at once, and a step costs the same however long the output is. (The
    tokenizers library's `DecodeStream` holds back whatever ends in U+FFFD, decodes all of that anew at each token,
    cannot be flushed, and strips a first space even where the output goes on from a prompt.)
    """

    def __init__(self, spell: SpellToken, special: Container[int], *, strip_first_space: bool) -> None:
        """Tokens in `special` have no text. `strip_first_space`: the output begins the text, see TokenSpelling."""
        self._spell = spell
        self._special = special
        self._strip = strip_first_space
        self._decoder = _Utf8Decoder("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; often none, if it ends in mid-character."""
        if token_id in self._special:
            return ""
        spelled = self._spell(token_id)
        if self._strip and spelled:
            self._strip = False
            spelled = spelled.removeprefix(b" ")
        return self._decoder.decode(spelled)

    def flush(self) -> str:
        """The output ends here: U+FFFD if it ended in mid-character."""
        return self._decoder.decode(b"", final=True)
