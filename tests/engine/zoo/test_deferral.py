"""The deferral statistic's yardsticks, against hand-made cases and their bounds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.zoo.deferral import Outcome, auroc, deferral_curve
from engine.zoo.evaluate import wilson

outcomes = st.lists(
    st.builds(Outcome, st.floats(0, 20).map(lambda m: round(m, 1)), st.booleans(), st.booleans()), min_size=1
)


def _worlds(right: list[float], wrong: list[float]) -> list[Outcome]:
    return [Outcome(m, True, True) for m in right] + [Outcome(m, False, True) for m in wrong]


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [([5, 6], [1, 2], 1.0), ([1, 2], [5, 6], 0.0), ([3, 3], [3, 3], 0.5), ([1, 4], [2, 3], 0.5), ([2], [], 0.5)],
)
def test_auroc(right: list[float], wrong: list[float], expected: float) -> None:
    assert auroc(_worlds(right, wrong)) == pytest.approx(expected)


@given(outcomes)
def test_auroc_counts_pairs(found: list[Outcome]) -> None:
    right = [o.margin for o in found if o.small_right]
    wrong = [o.margin for o in found if not o.small_right]
    pairs = [(r > w) + 0.5 * (r == w) for r in right for w in wrong]
    assert auroc(found) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.5)


def test_a_perfect_statistic_is_the_oracle() -> None:
    verdict = deferral_curve(_worlds([5, 6, 7], [1, 2]))
    assert verdict.apgr == verdict.oracle_apgr
    assert verdict.normalised_apgr == pytest.approx(1.0)


@given(outcomes)
def test_the_curve_goes_from_the_small_model_to_the_large_one(found: list[Outcome]) -> None:
    verdict = deferral_curve(found)
    first, last = verdict.points[0], verdict.points[-1]
    assert (first.escalated, last.escalated) == (0, 1)
    assert first.accuracy == sum(o.small_right for o in found) / len(found)
    assert last.accuracy == sum(o.large_right for o in found) / len(found)
    for point in verdict.points:
        cascade = [o.large_right if o.margin < point.threshold else o.small_right for o in found]
        assert point.accuracy == pytest.approx(sum(cascade) / len(found))
    if sum(o.large_right - o.small_right for o in found) > 0:
        assert verdict.apgr <= verdict.oracle_apgr + 1e-9


def test_wilson_interval() -> None:
    low, high = wilson(81, 263)  # the worked example of Newcombe (1998), method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 0) == (0.0, 1.0)
    assert math.isclose(wilson(10, 10)[1], 1.0)
