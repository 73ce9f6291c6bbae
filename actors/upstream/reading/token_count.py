"""How many tokens an answer has, while it comes and at its end. Sans-IO; one a call."""

import re

from actors.upstream.reading.usage import UsageCounts

_BYTES_A_TOKEN = 8
_MOST_CHARACTERS_A_TOKEN = 16
"""No tokenizer says more with one token, on average, if runs of one character are left out."""
_MOST_HIDDEN = 1 << 20
"""Tokens of reasoning that is not shown and that no limit was set for; no model thinks longer."""
_RUN = re.compile(r"(.)\1+", re.DOTALL)


class TokenCounting:
    """Feed it all that tokens were needed for: text, reasoning and calls."""

    def __init__(self, most: int) -> None:
        """`most`: tokens that were asked for at the most."""
        self.tokens = 0
        """One for each piece, or for every eight bytes of a longer one; or as the log-probabilities show."""
        self._most = most
        self._pieces: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, said: str, positions: int) -> None:
        """One event's. `positions`: tokens whose log-probabilities it has."""
        self._pieces.append(said)
        size = len(said) if said.isascii() else len(said.encode("utf-8", "replace"))
        self.tokens += positions or size // _BYTES_A_TOKEN or 1

    def settle(self, counts: UsageCounts) -> None:
        """The upstream's own count, if it can be true."""
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
