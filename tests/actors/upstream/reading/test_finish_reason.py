"""Finish reasons as servers in the field spell them."""

from typing import Any

import pytest

from actors.upstream.reading.finish_reason import ENDINGS, NO_END, finish_meaning


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("MAX_TOKENS", "length"),
        ("maxTokens", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ({"type": "length", "length": 16}, "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_spellings_are_one_word(word: Any, reason: str) -> None:
    found = finish_meaning(word)
    assert found is not None
    assert (found.reason, found.abnormal, found.known) == (reason, None, True)


@pytest.mark.parametrize("word", [None, False, *sorted(NO_END), "NULL", {"type": None}])
def test_some_words_say_that_there_is_no_end_yet(word: Any) -> None:
    assert finish_meaning(word) is None


def test_a_word_that_nobody_knows_ends_the_answer_all_the_same() -> None:
    found = finish_meaning("ran out of ideas")
    assert found is not None
    assert (found.reason, found.known) == ("stop", False)


def test_a_failure_is_no_end_of_an_answer() -> None:
    for word in ("error", "abort", "insufficient_system_resource"):
        found = finish_meaning(word)
        assert found is not None
        assert found.abnormal is not None


def test_each_word_of_the_table_means_the_same_in_capitals() -> None:
    assert {word: finish_meaning(word.upper()) for word in ENDINGS} == ENDINGS
