"""Tokens are counted as they come, and an upstream's own count replaces that where it can be true."""

import pytest

from actors.upstream.reading.token_counter import TokenCounter
from actors.upstream.reading.usage import UsageCounts


def counting(*pieces: str, most: int = 100) -> TokenCounter:
    made = TokenCounter(most)
    for each in pieces:
        made.add(each, 0)
    return made


def test_a_piece_is_a_token_or_one_for_every_eight_bytes() -> None:
    assert counting("a", "bc", "x" * 24).tokens == 5
    assert counting("東" * 8).tokens == 3
    made = TokenCounter(100)
    made.add("three at once", 3)
    assert made.tokens == 3


@pytest.mark.parametrize(
    ("told", "hidden", "settled"),
    [
        (5, False, 5),
        # Nothing was said of it, or less than any tokenizer needs.
        (0, False, 8),
        (1, False, 8),
        # More than was asked for, and more than four tokens a character.
        (1000, False, 8),
        # Thoughts that were not shown.
        (1000, True, 1000),
    ],
)
def test_a_count_that_cannot_be_true_is_not_believed(told: int, hidden: bool, settled: int) -> None:
    made = counting(*["abcd efg"] * 8, most=50)
    made.settle(UsageCounts(10, told, hidden=hidden))
    assert made.tokens == settled


def test_a_run_of_one_character_needs_few_tokens() -> None:
    made = counting("=" * 4000)
    made.settle(UsageCounts(10, 2))
    assert made.tokens == 2


def test_where_nothing_was_said_nothing_is_counted() -> None:
    made = counting()
    made.settle(UsageCounts(10, 0))
    assert (made.tokens, bool(made)) == (0, False)
