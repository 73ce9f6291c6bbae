"""Typos in every tenth word rarely change decisions that are made before the first token."""

import json
import re
from collections.abc import Callable
from random import Random

import pytest

from config.model.calibration import read_calibration
from config.profiles import embedded_profile
from engine.zoo.tasks import held_out_questions
from policies.cascade.calibration import threshold_for_share
from policies.cascade.prompt_model import priors_of, threshold_at, words_of
from policies.routing.code_share import code_density
from policies.routing.complexity import complexity
from policies.routing.language import language
from tests.paths import ROOT

HERE = ROOT / "tests/policies"
MAX_CHANGED = 0.05
SEEDS = range(3)
QUESTIONS = [question.prompt for question in held_out_questions(Random(1), 195)]
STATISTICS: list[float] = json.loads((HERE / "zoo_statistics.json").read_text())
"""Joint margins in nats of the embedded small model's answers to `QUESTIONS`."""
GRADED = [line.split("\t")[1] for line in (HERE / "prompts_by_difficulty.tsv").read_text().splitlines()]
MESSAGES = [line.split("\t")[1] for line in (HERE / "short_messages.tsv").read_text().splitlines()]
PROMPTS = [*QUESTIONS, *(text.replace("\\n", "\n") for text in GRADED), *Random(0).sample(MESSAGES, 65)]
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {key: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in KEYS for at, key in enumerate(row)}


def mistyped(text: str, rng: Random) -> str:
    """The text with a typo in every tenth word, and in at least one."""
    words = [match.span() for match in re.finditer(r"[^\W\d_]{2,}", text)]
    letters = list(text)
    count = max(round(len(text.split()) / 10), 1)
    for begin, end in sorted(rng.sample(words, min(count, len(words))), reverse=True):
        at = rng.randrange(begin, end - 1)
        match rng.choice(("swap", "drop", "double", "neighbour")):
            case "swap":
                letters[at], letters[at + 1] = letters[at + 1], letters[at]
            case "drop":
                del letters[at]
            case "double":
                letters.insert(at, letters[at])
            case _:
                letters[at] = rng.choice(NEIGHBOURS.get(letters[at].lower(), "e"))
    return "".join(letters)


def share_that_changes(prompts: list[str], decide: Callable[[int, str], object]) -> float:
    """The share of prompts whose decision a typo changes. `decide` takes the prompt's index and its text."""
    changed = [
        decide(place, text) != decide(place, mistyped(text, rng))
        for rng in map(Random, SEEDS)
        for place, text in enumerate(prompts)
    ]
    return sum(changed) / len(changed)


def test_there_are_typos() -> None:
    assert len(PROMPTS) == 300
    assert share_that_changes(PROMPTS, lambda _, text: text) > 0.9


DECISIONS: dict[str, Callable[[int, str], object]] = {
    "code >= 0.3": lambda _, text: code_density(text) >= 0.3,
    "language": lambda _, text: language(text),
} | {
    f"complexity >= {at}": lambda _, text, at=at: complexity(text) >= at
    for at in (0.08, 0.1, 0.11, 0.14, 0.16, 0.17, 0.18, 0.29, 0.3, 0.42)
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_condition_holds_as_before(name: str) -> None:
    assert share_that_changes(PROMPTS, DECISIONS[name]) <= MAX_CHANGED


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.41, 0.5, 0.6])
def test_a_calibration_by_prompt_escalates_as_before(share: float) -> None:
    """For the same answer of the small model, with the threshold of the mistyped prompt."""
    calibration = read_calibration(embedded_profile().parent / "calibrations" / "embedded.json")
    model = calibration.prompt
    assert model is not None
    level = threshold_for_share(calibration, share)

    def escalates(place: int, text: str) -> bool:
        return STATISTICS[place] < threshold_at(model, priors_of(model, words_of(text)), level)

    assert share_that_changes(QUESTIONS, escalates) <= MAX_CHANGED
