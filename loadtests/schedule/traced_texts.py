"""Texts for the requests of a trace: equal ids of blocks are equal words, so that prompts share what they shared.

A prompt may have twenty thousand words, and its text is made while answers arrive: so a block is a slice of a list that
is made once, behind a few words that spell its id.
"""

from random import Random

from loadtests.schedule.traced_request import TracedRequest
from loadtests.schedule.words import WORDS

_POOL = 4096
_STRIDE = 7919
_ID_BITS = 64


class TracedTexts:
    """Of one seed."""

    def __init__(self, seed: int) -> None:
        rng = Random(f"{seed}/blocks")  # noqa: S311  (no secret)
        self._pool = rng.choices(WORDS, k=_POOL)

    def text(self, traced: TracedRequest, rng: Random) -> str:
        """The words beyond the blocks are the request's own."""
        words: list[str] = []
        for block in traced.prefix:
            if len(words) >= traced.prompt_tokens:
                break
            words += self._block(block, traced.prefix_block)
        left = traced.prompt_tokens - len(words)
        if left > 0:
            words += rng.choices(WORDS, k=left)
        return " ".join(words[: traced.prompt_tokens])

    def _block(self, block: int, size: int) -> list[str]:
        words: list[str] = []
        left = block % (1 << _ID_BITS)
        while len(words) < size and (left or not words):
            left, digit = divmod(left, len(WORDS))
            words.append(WORDS[digit])
        start = block * _STRIDE % _POOL
        while len(words) < size:
            words += self._pool[start : start + size - len(words)]
            start = 0
        return words
