"""Speculative decoding without a draft model: drafts are what followed the latest occurrence of the same n-gram.

Saxena, "Prompt Lookup Decoding", 2023. It helps where answers repeat parts of the prompt or of themselves.
"""

from collections.abc import Sequence


class NgramLookup:
    """One sequence's tokens with an incremental index of their n-grams."""

    def __init__(self, prompt: Sequence[int], *, ngram: int, tokens: int) -> None:
        """`ngram`: length of the match. `tokens`: length of a draft."""
        self._ngram = ngram
        self._tokens = tokens
        self._prompt_tokens = len(prompt)
        self._token_ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        """Position after the latest occurrence of an n-gram."""
        self._extend(prompt)

    def propose(self, output: Sequence[int]) -> list[int]:
        """A draft to follow `output`, the complete output so far; empty if its last n-gram did not occur before.

        The draft may overlap its own source, as copies do in LZ77 (Ziv and Lempel, "A Universal Algorithm for
        Sequential Data Compression", 1977), so that a short period is continued.
        """
        tokens = self._token_ids
        self._extend(output[len(tokens) - self._prompt_tokens :])
        start = self._after.get(tuple(tokens[-self._ngram :]))
        if start is None:
            return []
        period = len(tokens) - start
        return [tokens[start + offset % period] for offset in range(self._tokens)]

    def _extend(self, token_ids: Sequence[int]) -> None:
        tokens, ngram = self._token_ids, self._ngram
        for token_id in token_ids:
            if len(tokens) >= ngram:
                self._after[tuple(tokens[-ngram:])] = len(tokens)
            tokens.append(token_id)
