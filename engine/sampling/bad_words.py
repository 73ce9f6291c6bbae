"""Banned words as token sequences (vLLM's `bad_words`)."""

from collections.abc import Sequence

from engine.text.tokenizer import Tokenizer


def spellings(words: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Tokenizations of each word: at the beginning of a text, within a text, and after a space.

    The last token of a sequence is banned after the tokens before it. A model can still produce the word with another
    tokenization.
    """
    unique: dict[tuple[int, ...], None] = {}
    for word in words:
        spelled = (
            tokenizer.encode(word, add_special_tokens=False),
            tokenizer.encode_continuation(word),
            tokenizer.encode_continuation(" " + word.lstrip()),
        )
        unique |= dict.fromkeys(tuple(ids) for ids in spelled if ids)
    return tuple(unique)


def completing(sequences: Sequence[tuple[int, ...]], output: Sequence[int]) -> list[int]:
    """The tokens that would complete one of the sequences after `output`."""
    return [
        sequence[-1]
        for sequence in sequences
        if len(sequence) <= len(output) + 1
        and (len(sequence) == 1 or tuple(output[1 - len(sequence) :]) == sequence[:-1])
    ]
