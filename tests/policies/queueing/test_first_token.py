"""How long after its start a job's first output is allowed for."""

import pytest

from policies.queueing.first_token import FirstTokenTime


def test_nothing_is_allowed_for_while_nothing_is_known() -> None:
    assert (FirstTokenTime().mean_s, FirstTokenTime().allowance_s) == (None, 0.0)


def test_the_first_counts_with_half_of_it_as_deviation() -> None:
    found = FirstTokenTime()
    found.add(0.4)
    assert (found.mean_s, found.allowance_s) == (0.4, pytest.approx(0.8))


def test_it_follows_a_steady_time_and_its_spread() -> None:
    steady, spread = FirstTokenTime(), FirstTokenTime()
    for number in range(200):
        steady.add(0.3)
        spread.add(0.2 + 0.2 * (number % 2))
    assert steady.allowance_s == pytest.approx(0.3, abs=0.001)
    assert spread.mean_s == pytest.approx(0.3, abs=0.02)
    assert spread.allowance_s == pytest.approx(0.5, abs=0.03)
    for _ in range(60):
        steady.add(0.05)
    assert steady.allowance_s == pytest.approx(0.05, abs=0.01)
