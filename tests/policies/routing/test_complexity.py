"""The threshold of complexity that the docs show tells hard prompts from others, and their table is of the score."""

import math
import re
import timeit

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.routing.complexity import LOOKED_AT_CHARS, complexity, complexity_terms
from tests.paths import DOCS, ROOT

POLICIES = (DOCS / "policies.md").read_text()
ROWS = [line.split("\t") for line in (ROOT / "tests/policies/prompts_by_difficulty.tsv").read_text().splitlines()]
SCORES = {
    kind: sorted(complexity(text.replace("\\n", "\n")) for each, text in ROWS if each == kind)
    for kind in ("easy", "medium", "hard")
}


def test_the_documented_threshold_takes_the_hard_ones() -> None:
    thresholds = [float(found) for found in re.findall(r"complexity = \{ at_least = ([0-9.]+) \}", POLICIES)]
    assert thresholds
    others = SCORES["easy"] + SCORES["medium"]
    for threshold in thresholds:
        assert sum(score >= threshold for score in SCORES["hard"]) >= 0.9 * len(SCORES["hard"])
        assert sum(score >= threshold for score in others) <= 0.2 * len(others)


def test_the_documented_quantiles_are_those_of_the_score() -> None:
    for kind, scores in SCORES.items():
        row = re.search(rf"^\| {kind} .*$", POLICIES, re.MULTILINE)
        assert row is not None
        told = [float(cell) for cell in row.group().split("|")[2:-1]]
        places = [0, len(scores) // 4, len(scores) // 2, 3 * len(scores) // 4, len(scores) - 1]
        assert told == [round(scores[place], 2) for place in places]


def test_plainly_different_prompts_are_ordered() -> None:
    code = "Write a function. It must be exactly O(n), without recursion.\n```\ndef f(x): return {x: [x]};\n```\n" * 5
    ladder = [
        "hi",
        "What is 17 + 25?",
        "Compare these two plans, step by step, and explain why one must not exceed 1200 units of 40 each.",
        code,
    ]
    scores = [complexity(text) for text in ladder]
    assert scores == sorted(scores)
    assert len(set(scores)) == len(scores)
    assert scores[0] < 0.1
    assert scores[-1] > 0.8


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(-1, 100))
def test_a_score_is_a_share(text: str, turns: int) -> None:
    assert 0 < complexity(text, turns) < 1


@given(st.text(max_size=300), st.integers(-1, 100))
def test_the_terms_are_the_score(text: str, turns: int) -> None:
    terms = complexity_terms(text, turns)
    assert complexity(text, turns) == 1 / (1 + math.exp(-sum(term.adds for term in terms)))


def test_the_terms_say_what_counted() -> None:
    terms = {term.word: term.adds for term in complexity_terms("Explain ```x``` 123456, without a must", 3)}
    assert {word for word, adds in terms.items() if adds > 0} == set(terms) - {"begin"}
    plain = {term.word: term.adds for term in complexity_terms("hello there")}
    assert {word for word, adds in plain.items() if adds} == {"begin", "length"}


def test_later_turns_count_and_long_texts_cost_no_more() -> None:
    assert complexity("and now?", 5) > complexity("and now?", 1)
    assert complexity("word " * 10**5) > complexity("word " * 1000)

    def cost(text: str) -> float:
        return min(timeit.repeat(lambda: complexity(text), number=20, repeat=5))

    assert cost("x" * LOOKED_AT_CHARS * 500) < 5 * cost("x" * LOOKED_AT_CHARS)
