"""Thresholds by what a prompt says: right at both ends, and worth it where tasks differ."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import PromptModel
from policies.authoring.calibration_fit import fit_prompt_model
from policies.cascade.prompt_model import (
    BUCKETS,
    LIMIT,
    neutral_priors,
    priors_of,
    score_of,
    threshold_at,
    words_of,
)
from tests.policies.authoring.test_prompt_fit import WORLD, world

MODEL = PromptModel(
    slope=0.5,
    small_bias=0.2,
    small_words=tuple(0.01 * n for n in range(BUCKETS)),
    large_bias=1.0,
    large_words=tuple(-0.005 * n for n in range(BUCKETS)),
    small_mean=0.7,
    large_mean=0.8,
)


@given(st.floats(-0.99, 0.99), st.floats(-30, 30), st.floats(-5, 5), st.floats(0.01, 0.99))
def test_below_the_threshold_is_below_the_level(level: float, statistic: float, small: float, large: float) -> None:
    threshold = threshold_at(MODEL, (small, large), level)
    score = score_of(MODEL, (small, large), statistic)
    if abs(score - level) > 1e-9:
        assert (statistic < threshold) == (score < level)


def test_the_ends_are_always_and_never() -> None:
    assert threshold_at(MODEL, (0.0, 0.9), -math.inf) == -math.inf
    assert threshold_at(MODEL, (0.0, 0.9), math.inf) == math.inf
    assert threshold_at(MODEL, (0.0, 0.3), -0.4) == -math.inf
    assert score_of(MODEL, (0.0, 0.5), math.inf) == score_of(MODEL, (0.0, 0.5), LIMIT)


@given(st.text(max_size=3000))
def test_any_text_has_words(text: str) -> None:
    words = words_of(text)
    assert words == tuple(sorted(set(words)))
    assert all(0 <= word < BUCKETS for word in words)
    assert 0 < priors_of(MODEL, words)[1] < 1


def test_numbers_count_by_their_length() -> None:
    assert words_of("What is 17 + 25?") == words_of("what is 99 + 10?")
    assert words_of("What is 17 + 25?") != words_of("What is 171 + 25?")


def test_doubt_is_no_reason_where_large_knows_no_more() -> None:
    model = fit_prompt_model(world(1, 3000))
    thresholds = [threshold_at(model, priors_of(model, words_of(f"{text} 500")), -0.2) for text, _, _ in WORLD]
    assert max(thresholds[1:]) < thresholds[0]
    assert neutral_priors(model)[1] == pytest.approx(0.78, abs=0.05)
