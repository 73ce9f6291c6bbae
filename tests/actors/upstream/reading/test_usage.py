"""Usage in the forms that servers have; what cannot be true counts as nothing."""

from typing import Any

import pytest

from actors.upstream.reading.usage import UsageCounts, counts_of

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
        ({**OPENAI, "completion_tokens_details": {"reasoning_tokens": 2}}, UsageCounts(10, 4, 3, hidden=True)),
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
