"""The search finds a known capacity, also when answers are noisy and sometimes wrong."""

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.sweeping.rate_search import RateSearch, tried_until_found

Curve = Callable[[float], float]


def search(first: float = 1.0, most: int = 20, lowest: float = 0.01, highest: float = 1e5) -> RateSearch:
    return RateSearch(first, lowest, highest, target=0.95, tolerance=0.04, most=most)


def good(_: float) -> tuple[float, float]:
    return 1.0, 0.01


def bad(_: float) -> tuple[float, float]:
    return 0.0, 0.01


def cliff(capacity: float) -> Curve:
    return lambda rate: 1.0 if rate <= capacity else 0.1


def queue(capacity: float) -> Curve:
    """M/M/1: the share of responses within t is 1 - exp(-(mu - rate) t)."""
    mu = 50.0
    limit_s = math.log(1 / 0.05) / (mu - capacity)
    return lambda rate: 1 - math.exp(-max(mu - rate, 0.0) * limit_s)


@given(st.floats(0.02, 50_000), st.floats(0.1, 1000))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sure_answers_end_within_the_tolerance(capacity: float, first: float) -> None:
    curve = cliff(capacity)
    found = tried_until_found(search(first, most=60), lambda rate: (curve(rate), 0.005))
    # The tolerance bounds an interval of 80 %; in 1,500 searches the rate was up to 4.5 % away.
    assert found.rate == pytest.approx(capacity, rel=0.06)
    assert found.low <= found.rate <= found.high


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("curve", [cliff(44.0), queue(44.0)], ids=["cliff", "queue"])
def test_a_server_of_known_capacity_with_noise(curve: Curve, seed: int) -> None:
    rng = Random(seed)

    def run(rate: float) -> tuple[float, float]:
        return min(max(rng.gauss(curve(rate), 0.015), 0.0), 1.0), 0.015

    assert tried_until_found(search(), run).rate == pytest.approx(44.0, rel=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_one_wrong_answer_is_outweighed(seed: int) -> None:
    wrong = Random(seed).randrange(4, 9)
    asked: list[float] = []

    def run(rate: float) -> tuple[float, float]:
        asked.append(rate)
        is_so = rate <= 37.0
        return (1.0 if is_so != (len(asked) == wrong) else 0.3), 0.02

    assert tried_until_found(search(), run).rate == pytest.approx(37.0, rel=0.05)


@pytest.mark.parametrize(
    ("first", "capacity", "rates"),
    [(3.0, 20.0, [3, 6, 12, 24]), (8.0, 1.5, [8, 4, 2, 1]), (0.001, 0.015, [0.01, 0.02])],
)
def test_the_bracket_doubles_and_halves(first: float, capacity: float, rates: list[float]) -> None:
    one, tried = search(first), []
    while not one.is_bracketed:
        tried.append(one.next_rate())
        one.take(tried[-1], float(tried[-1] <= capacity), 0.01)
    assert tried == rates


def test_a_bracket_is_not_left_for_one_doubtful_answer() -> None:
    one = search(1.0, highest=1000.0)
    for rate, share, error in ((1.0, 1.0, 0.04), (2.0, 1.0, 0.04), (4.0, 0.47, 0.12), (3.5, 1.0, 0.02)):
        one.take(rate, share, error)
    assert 3.0 < one.next_rate() < 5.0


def test_ends_at_the_ends() -> None:
    above = search(5, lowest=1, highest=40)
    tried_until_found(above, good)
    assert above.never_broke
    assert above.tried == 4
    below = search(5, lowest=1, highest=40)
    tried_until_found(below, bad)
    assert below.never_held


def test_it_never_tries_more_than_asked() -> None:
    short = search(most=3)
    tried_until_found(short, lambda rate: (0.96 - rate / 1000, 0.05))
    assert short.tried == 3
    assert short.expected_left() == 0
    assert not short.is_found


def test_what_is_left_is_guessed_roughly() -> None:
    one, guesses, curve = search(), [], queue(44.0)
    while (rate := one.next_rate()) is not None:
        guesses.append(one.expected_left())
        one.take(rate, curve(rate), 0.01)
    assert all(1 <= guess <= 8 for guess in guesses)
    assert guesses[-1] <= 4
