"""Words that an answer must not hold, as the token sequences that spell them (vLLM's `bad_words`)."""

from collections.abc import Sequence

from engine.text.tokenizer import Tokenizer


def spellings(words: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """How the tokenizer writes each word: at the beginning of a text, behind something, and after a space.

    A model can still write a word in other pieces: what is banned is the last token of these sequences.
    """
    found: dict[tuple[int, ...], None] = {}
    for word in words:
        spelled = (
            tokenizer.encode(word, add_special_tokens=False),
            tokenizer.encode_inside(word),
            tokenizer.encode_inside(" " + word.lstrip()),
        )
        found |= dict.fromkeys(tuple(ids) for ids in spelled if ids)
    return tuple(found)


def completing(sequences: Sequence[tuple[int, ...]], output: Sequence[int]) -> list[int]:
    """The tokens that would now complete one of the sequences."""
    return [
        sequence[-1]
        for sequence in sequences
        if len(sequence) <= len(output) + 1
        and (len(sequence) == 1 or tuple(output[1 - len(sequence) :]) == sequence[:-1])
    ]
