from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.judging.judgement import judged

LOGPROBS = st.lists(st.floats(-60, 0), min_size=1, max_size=20)


def test_probabilities_are_shares_of_what_the_outcomes_have() -> None:
    judgement = judged([log(0.6), log(0.2)])
    assert judgement.probabilities == pytest.approx((0.75, 0.25))
    assert judgement.mass == pytest.approx(0.8)
    assert judgement.best == 0
    assert judgement.expectation([1, 5]) == pytest.approx(2.0)


def test_a_temperature_above_one_makes_it_less_sure() -> None:
    calibrated = judged([log(0.8), log(0.2)], 2.0)
    assert calibrated.probabilities == pytest.approx((2 / 3, 1 / 3))
    assert calibrated.mass == pytest.approx(1.0)


def test_of_equal_outcomes_the_first_is_the_best() -> None:
    assert judged([-1.0, -0.5, -0.5]).best == 1


def test_outcomes_of_no_probability_at_all_still_have_shares() -> None:
    assert judged([-2000.0, -2001.0]).probabilities == pytest.approx((1 / (1 + exp(-1)), 1 / (1 + exp(1))))


@given(LOGPROBS, st.floats(0.05, 20))
def test_shares_add_up_and_keep_their_order(logprobs: list[float], temperature: float) -> None:
    judgement = judged(logprobs, temperature)
    assert sum(judgement.probabilities) == pytest.approx(1)
    assert 0 <= judgement.mass <= 1
    pairs = sorted(zip(logprobs, judgement.probabilities, strict=True))
    assert [share for _, share in pairs] == sorted(judgement.probabilities)
    assert judgement.expectation([2.0] * len(logprobs)) == pytest.approx(2.0)
