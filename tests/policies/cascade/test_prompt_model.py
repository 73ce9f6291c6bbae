"""Thresholds by prompt: correct at both ends, and better than one threshold where tasks differ."""

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import PromptModel
from policies.authoring.calibration_fit import Scored
from policies.authoring.prompt_fit import fit_prompt_model, scores_unseen
from policies.cascade.prompt_model import (
    BUCKETS,
    LIMIT,
    neutral_priors,
    priors_of,
    score_of,
    threshold_at,
    words_of,
)

MODEL = PromptModel(
    slope=0.5,
    small_bias=0.2,
    small_words=tuple(0.01 * n for n in range(BUCKETS)),
    large_bias=1.0,
    large_words=tuple(-0.005 * n for n in range(BUCKETS)),
    small_mean=0.7,
    large_mean=0.8,
)
TASKS = [("sum the numbers", 0.9, 0.6), ("who lives there", 0.5, 0.5), ("reverse the word", 0.95, 0.9)]
"""(prompt, how often large is right, how often small is right)."""


def prompts(seed: int, count: int) -> list[Scored]:
    """If small is wrong its statistic is lower; on the second task large is no better than small."""
    rng = random.Random(seed)
    scored = []
    for _ in range(count):
        text, large, small = rng.choice(TASKS)
        right = rng.random() < small
        score = rng.gauss(3.0 if right else 0.5, 1.5)
        scored.append(Scored(score, right, rng.random() < large, words_of(f"{text} {rng.randrange(1000)}")))
    return scored


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


def test_the_threshold_is_lower_where_large_is_no_better() -> None:
    model = fit_prompt_model(prompts(1, 3000))
    thresholds = [threshold_at(model, priors_of(model, words_of(f"{text} 500")), -0.2) for text, _, _ in TASKS]
    assert max(thresholds[1:]) < thresholds[0]
    assert neutral_priors(model)[1] == pytest.approx(0.78, abs=0.05)


def test_unseen_prompts_are_ordered_better_than_by_the_statistic_alone() -> None:
    seen = prompts(2, 3000)
    levels = scores_unseen(seen)

    def recovered(scores: list[float]) -> float:
        order = sorted(range(len(seen)), key=lambda place: scores[place])
        return sum(seen[place].large_right - seen[place].small_right for place in order[: len(seen) // 4])

    assert recovered(levels) > 1.05 * recovered([prompt.score for prompt in seen])


def test_a_statistic_that_falls_with_accuracy_is_refused() -> None:
    upside_down = [msgspec.structs.replace(prompt, score=-prompt.score) for prompt in prompts(3, 500)]
    with pytest.raises(ValueError, match="not righter"):
        fit_prompt_model(upside_down)
