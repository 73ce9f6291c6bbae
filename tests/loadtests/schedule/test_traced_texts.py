"""Texts of a trace's requests."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.schedule.traced_request import TracedRequest
from loadtests.schedule.traced_texts import TracedTexts

TEXTS = TracedTexts(1)


def words(tokens: int, prefix: tuple[int, ...] = (), block: int = 16, texts: TracedTexts = TEXTS) -> list[str]:
    traced = TracedRequest(at_s=0, prompt_tokens=tokens, output_tokens=1, prefix=prefix, prefix_block=block)
    return texts.text(traced, Random(1)).split(" ")


@given(st.integers(1, 3000), st.lists(st.integers(-(2**63), 2**64), max_size=5), st.sampled_from([1, 16, 512, 5000]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_as_many_words_as_the_trace_says(tokens: int, prefix: list[int], block: int) -> None:
    assert len(words(tokens, tuple(prefix), block)) == tokens


@pytest.mark.parametrize("block", [16, 512])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (5, 5 + 4096), (2**63, 2**63 + 1), (7, 7 + 2**40)])
def test_blocks_of_different_ids_differ_from_the_first_words_on(one: int, other: int, block: int) -> None:
    assert words(block, (one,), block)[:8] != words(block, (other,), block)[:8]
    assert words(block, (one,), block) == words(block, (one,), block)


def test_another_seed_makes_other_words() -> None:
    assert words(512, (3,), 512) != words(512, (3,), 512, TracedTexts(2))
