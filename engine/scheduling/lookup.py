"""Drafts without a second model: what followed the last time that the same few tokens were said.

"Prompt Lookup Decoding" (Saxena, 2023): answers that repeat their prompt, or themselves, are drafted for nothing.
"""

from collections.abc import Sequence


class NgramLookup:
    """One sequence's text so far, with an index of its n-grams; each token is indexed once."""

    __slots__ = ("_after", "_ngram", "_prompt_tokens", "_said", "_tokens")

    def __init__(self, prompt: Sequence[int], *, ngram: int, tokens: int) -> None:
        """`ngram`: tokens that must be the same. `tokens`: length of a draft."""
        self._ngram = ngram
        self._tokens = tokens
        self._prompt_tokens = len(prompt)
        self._said: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Where the latest text after an n-gram begins."""
        self._extend(prompt)

    def propose(self, output: Sequence[int]) -> list[int]:
        """What is expected after `output`, all of the answer so far; empty if its end was never seen before.

        The draft may run into itself, as a copy in "A Universal Algorithm for Sequential Data Compression" (Ziv and
        Lempel, 1977) does: what repeats with a short period goes on repeating.
        """
        said = self._said
        self._extend(output[len(said) - self._prompt_tokens :])
        start = self._after.get(tuple(said[-self._ngram :]))
        if start is None:
            return []
        period = len(said) - start
        return [said[start + offset % period] for offset in range(self._tokens)]

    def _extend(self, token_ids: Sequence[int]) -> None:
        said, ngram = self._said, self._ngram
        for token_id in token_ids:
            if len(said) >= ngram:
                self._after[tuple(said[-ngram:])] = len(said)
            said.append(token_id)
