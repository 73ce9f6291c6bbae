"""The page of a comparison."""

import msgspec
import pytest

from loadtests.comparing.comparison import compare_runs
from loadtests.comparing.condition import parse_condition
from loadtests.model.run_record import RunVerdict
from loadtests.report.compare_page import compare_page, headline
from tests.loadtests.report.test_run_page import read
from tests.loadtests.synthetic_runs import even_run

_EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize(
    ("slower", "words"),
    [
        ({"ttft": 0.2}, "B is worse in ttft_p50"),
        ({"ttft": 0.05}, "B is better in ttft_p50"),
        ({}, "No difference seen"),
    ],
)
def test_the_outcome_comes_first(slower: dict[str, float], words: str) -> None:
    a, b = [even_run()], [even_run(**slower)]
    comparison = compare_runs(a, b, [parse_condition("ttft_p50>+10%")], names=(_EVIL, "b"))
    page = compare_page(comparison, a, b)
    assert "img" not in read(page).names
    assert words in headline(comparison)
    assert page.index(words) < page.index("<table>")
    assert ("broken: ttft_p50" in page) == (slower == {"ttft": 0.2})


def test_runs_that_are_not_valid_are_said_first() -> None:
    a = [msgspec.structs.replace(even_run(), verdict=RunVerdict(False, ("late",)))]
    comparison = compare_runs(a, [even_run()])
    page = compare_page(comparison, a, [even_run()])
    assert page.index("Not valid") < page.index("<table>")


def test_short_runs_have_no_intervals() -> None:
    scenario = msgspec.structs.replace(even_run().header.scenario, duration=4.0)
    runs = [even_run(scenario)]
    comparison = compare_runs(runs, runs)
    assert headline(comparison) == "Too little was measured to see any difference"
    assert "No interval is known" in compare_page(comparison, runs, runs)


def test_a_change_from_nothing_is_drawn() -> None:
    a, b = [even_run()], [even_run(failure="truncated")]
    page = compare_page(compare_runs(a, b), a, b)
    drawn = page[page.index("Change from A to B") :]
    assert "failed_share" in drawn[: drawn.index("</svg>")]
