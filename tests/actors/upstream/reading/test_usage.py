"""Usage in the forms that servers have; implausible figures count as nothing, and tokens are counted as they come."""

from typing import Any

import pytest

from actors.upstream.reading.usage import TokenCounter, UsageCounts, counts_of

OPENAI = {
    "prompt_tokens": 10,
    "completion_tokens": 4,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 3},
}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (OPENAI, UsageCounts(10, 4, 3)),
        (
            {**OPENAI, "completion_tokens_details": {"reasoning_tokens": 2}},
            UsageCounts(10, 4, 3, reasoning=2),
        ),
        (
            {**OPENAI, "completion_tokens_details": {"reasoning_tokens": 9}},
            UsageCounts(10, 4, 3, reasoning=4),
        ),
        # Gemini's reasoning is in the total only.
        ({**OPENAI, "total_tokens": 20}, UsageCounts(10, 10, 3, reasoning=6)),
        # Anthropic leaves out of its input what went through the cache.
        ({"input_tokens": 5, "output_tokens": 4, "cache_read_input_tokens": 7}, UsageCounts(12, 4, 7)),
        # DeepSeek's cache.
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4, "completion_tokens": 1}, UsageCounts(10, 1, 6)),
        ({"prompt_tokens": -1, "completion_tokens": True}, UsageCounts()),
        ({"prompt_tokens": 1 << 40, "completion_tokens": "many"}, UsageCounts()),
        ({}, UsageCounts()),
        ("none", UsageCounts()),
    ],
)
def test_forms(usage: Any, counts: UsageCounts) -> None:
    assert counts_of(usage=usage) == counts


def test_llama_cpp_counts_in_its_timings() -> None:
    timings = {"cache_n": 3, "prompt_n": 7, "predicted_n": 5}
    assert counts_of(usage=None, timings=timings) == UsageCounts(10, 5, 3)
    assert counts_of(usage=OPENAI, timings=timings) == UsageCounts(10, 4, 3)


def test_what_a_later_event_leaves_out_stays() -> None:
    assert UsageCounts(10, 0, 3).then(UsageCounts(0, 4)) == UsageCounts(10, 4, 3)
    assert UsageCounts(10, 1).then(UsageCounts(10, 9)) == UsageCounts(10, 9)


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
    ("told", "settled"),
    [
        (5, 5),
        # Nothing was said of it, or less than any tokenizer needs.
        (0, 8),
        (1, 8),
        # More than was asked for: thoughts that were not shown, or a limit that the server does not keep.
        (1000, 1000),
        # A million more.
        (1 << 21, 8),
    ],
)
def test_a_count_that_cannot_be_true_is_not_believed(told: int, settled: int) -> None:
    made = counting(*["abcd efg"] * 8, most=50)
    made.settle(UsageCounts(10, told))
    assert made.tokens == settled


def test_a_run_of_one_character_needs_few_tokens() -> None:
    made = counting("=" * 4000)
    made.settle(UsageCounts(10, 2))
    assert made.tokens == 2


def test_where_nothing_was_said_nothing_is_counted() -> None:
    made = counting()
    made.settle(UsageCounts(10, 0))
    assert (made.tokens, bool(made)) == (0, False)
