"""A fitted prompt model orders prompts that it has not seen."""

import random

import msgspec
import pytest

from policies.authoring.calibration_fit import Scored, fit_prompt_model, scores_unseen
from policies.cascade.prompt_model import (
    words_of,
)

WORLD = [("sum the numbers", 0.9, 0.6), ("who lives there", 0.5, 0.5), ("reverse the word", 0.95, 0.9)]
"""What is asked, how often large is right, and how often small is."""


def world(seed: int, count: int) -> list[Scored]:
    """Where small is wrong its statistic is lower; of the second task large knows no more."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        text, large, small = rng.choice(WORLD)
        right = rng.random() < small
        score = rng.gauss(3.0 if right else 0.5, 1.5)
        found.append(Scored(score, right, rng.random() < large, words_of(f"{text} {rng.randrange(1000)}")))
    return found


def test_unseen_prompts_are_ordered_better_than_by_the_statistic_alone() -> None:
    seen = world(2, 3000)
    levels = scores_unseen(seen)

    def recovered(scores: list[float]) -> float:
        order = sorted(range(len(seen)), key=lambda place: scores[place])
        return sum(seen[place].large_right - seen[place].small_right for place in order[: len(seen) // 4])

    assert recovered(levels) > 1.05 * recovered([each.score for each in seen])


def test_a_statistic_that_says_the_wrong_thing_is_refused() -> None:
    upside_down = [msgspec.structs.replace(each, score=-each.score) for each in world(3, 500)]
    with pytest.raises(ValueError, match="not righter"):
        fit_prompt_model(upside_down)
