"""Token count of an answer without token ids, during the stream and at its end. Sans-IO; one per call."""

import re

from actors.upstream.reading.usage import UsageCounts

_BYTES_A_TOKEN = 8
_MOST_CHARACTERS_A_TOKEN = 16
"""No tokenizer averages more characters per token, not counting runs of one character."""
_MOST_HIDDEN = 1 << 20
"""Maximum tokens of hidden reasoning without a limit; no model reasons longer."""
_RUN = re.compile(r"(.)\1+", re.DOTALL)


class TokenCounting:
    """Counts tokens of text, reasoning and tool calls."""

    def __init__(self, most: int) -> None:
        """`most`: maximum number of tokens requested."""
        self.tokens = 0
        """One per piece, or one per eight bytes of a longer piece; or the number of log-probabilities."""
        self._most = most
        self._pieces: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, said: str, positions: int) -> None:
        """Add one event's text. `positions`: number of tokens with log-probabilities in it."""
        self._pieces.append(said)
        size = len(said) if said.isascii() else len(said.encode("utf-8", "replace"))
        self.tokens += positions or size // _BYTES_A_TOKEN or 1

    def settle(self, counts: UsageCounts) -> None:
        """Replace the count by the upstream's own, if that is plausible."""
        if self._is_possible(counts):
            self.tokens = counts.completion

    def _is_possible(self, counts: UsageCounts) -> bool:
        told = counts.completion
        if not told:
            return not self._pieces
        seen = sum([len(each) for each in self._pieces])
        if told > max(self._most, 4 * seen) + (_MOST_HIDDEN if counts.hidden else 0):
            return False
        if told * _MOST_CHARACTERS_A_TOKEN >= seen:
            return True
        return told * _MOST_CHARACTERS_A_TOKEN >= len(_RUN.sub(r"\1", "".join(self._pieces)))
