"""What several sweeps say together."""

import pytest

from benchmarks.loadtests.sweeps import print_all, spread_of
from tests.loadtests.report.test_sweep_page import a_sweep


@pytest.mark.parametrize(
    ("rates", "share"), [((7.0,), 0.0), ((9.5, 10.5, 10.0), 0.05), ((8.0, 12.0), 0.2), ((0.0, 0.0), 0.0)]
)
def test_all_are_within_the_spread_of_its_middle(rates, share: float) -> None:
    spread = spread_of([a_sweep(rate=rate) for rate in rates])
    assert spread is not None
    assert spread.share == pytest.approx(share)


def test_a_sweep_that_found_nothing_leaves_no_spread(capsys) -> None:
    assert spread_of([]) is None
    print_all([a_sweep(), a_sweep(outcome="above")])
    assert "cannot be said" in capsys.readouterr().out


@pytest.mark.parametrize(("rates", "words"), [((9.6, 10.4), ": within ± 5 %"), ((9.0, 11.0), "NOT within ± 5 %")])
def test_the_verdict(rates, words: str, capsys) -> None:
    print_all([a_sweep(rate=rate) for rate in rates])
    assert words in capsys.readouterr().out
