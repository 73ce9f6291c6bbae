"""Token count of an answer without token ids, during the stream and at its end. Sans-IO; one per call."""

import re

from actors.upstream.reading.usage import UsageCounts

_BYTES_PER_TOKEN = 8
_MAX_CHARACTERS_PER_TOKEN = 16
"""No tokenizer averages more characters per token, not counting runs of one character."""
_MAX_HIDDEN = 1 << 20
"""Maximum tokens of hidden reasoning without a limit; no model reasons longer."""
_RUN = re.compile(r"(.)\1+", re.DOTALL)


class TokenCounter:
    """Counts tokens of text, reasoning and tool calls."""

    def __init__(self, max_tokens: int) -> None:
        """`max_tokens`: maximum number of tokens requested."""
        self.tokens = 0
        """One per piece, or one per eight bytes of a longer piece; or the number of log-probabilities."""
        self._max_tokens = max_tokens
        self._pieces: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, text: str, positions: int) -> None:
        """Add one event's text. `positions`: number of tokens with log-probabilities in it."""
        self._pieces.append(text)
        self.tokens += positions or _size(text) // _BYTES_PER_TOKEN or 1

    def add_all(self, texts: list[str]) -> None:
        """Add several events' texts."""
        self._pieces += texts
        self.tokens += sum([_size(text) // _BYTES_PER_TOKEN or 1 for text in texts])

    def settle(self, counts: UsageCounts) -> None:
        """Replace the count by the upstream's own, if that is plausible."""
        if self._is_possible(counts):
            self.tokens = counts.completion

    def _is_possible(self, counts: UsageCounts) -> bool:
        reported = counts.completion
        if not reported:
            return not self._pieces
        characters = sum([len(piece) for piece in self._pieces])
        if reported > max(self._max_tokens, 4 * characters) + (_MAX_HIDDEN if counts.hidden else 0):
            return False
        if reported * _MAX_CHARACTERS_PER_TOKEN >= characters:
            return True
        return reported * _MAX_CHARACTERS_PER_TOKEN >= len(_RUN.sub(r"\1", "".join(self._pieces)))


def _size(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
