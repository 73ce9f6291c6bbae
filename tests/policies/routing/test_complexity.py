"""The complexity threshold in the docs separates hard prompts from others, and the table there is up to date."""

import re

from policies.routing.complexity import complexity
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
        documented = [float(cell) for cell in row.group().split("|")[2:-1]]
        places = [0, len(scores) // 4, len(scores) // 2, 3 * len(scores) // 4, len(scores) - 1]
        assert documented == [round(scores[place], 2) for place in places]
