"""Thresholds for shares and for accuracies, from the least-squares fit among all non-decreasing functions."""

import datetime as dt
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow
from config.model.routing import Defer, Target
from policies.cascade.calibration import (
    fit_isotonic,
    probability_at,
    probability_right,
    share_for_threshold,
    threshold_for_accuracy,
    threshold_for_share,
    threshold_of,
)

pairs = st.lists(st.tuples(st.integers(0, 12).map(float), st.booleans()), min_size=1, max_size=40)


def test_a_hand_made_fit() -> None:
    assert fit_isotonic([1, 2, 3, 4], [False, True, False, True]) == ((1, 0.0), (2, 0.5), (3, 0.5), (4, 1.0))


def test_equal_scores_share_one_probability() -> None:
    assert fit_isotonic([5, 5, 5, 5], [True, False, True, True]) == ((5, 0.75),)


@pytest.mark.parametrize(("scores", "right"), [([], []), ([1.0], [])])
def test_nothing_to_fit(scores: list[float], right: list[bool]) -> None:
    with pytest.raises(ValueError, match="as many verdicts as scores"):
        fit_isotonic(scores, right)


def least_squares(scores: list[float], right: list[bool]) -> dict[float, float]:
    """The same fit by the min-max formula (Barlow et al., 1972), which uses no pools."""
    levels = sorted(set(scores))
    hits = {x: sum(r for s, r in zip(scores, right, strict=True) if s == x) for x in levels}

    def mean(low: int, high: int) -> float:
        part = levels[low : high + 1]
        return sum(hits[x] for x in part) / sum(scores.count(x) for x in part)

    last = len(levels) - 1
    return {
        x: max(min(mean(low, high) for high in range(place, last + 1)) for low in range(place + 1))
        for place, x in enumerate(levels)
    }


@given(pairs)
def test_it_is_the_least_squares_fit(answers: list[tuple[float, bool]]) -> None:
    scores, right = [s for s, _ in answers], [r for _, r in answers]
    knots = fit_isotonic(scores, right)
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(knots))
    for score, expected in least_squares(scores, right).items():
        assert probability_at(knots, score) == pytest.approx(expected)


def test_between_knots_it_is_linear_and_beyond_them_constant() -> None:
    knots = ((1.0, 0.2), (3.0, 0.6))
    assert [probability_at(knots, x) for x in (0, 1, 2, 3, 9)] == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.6])


ROWS = ((0.0, 0.0, 0.6), (0.5, 0.2, 0.7), (1.5, 0.5, 0.85), (4.0, 1.0, 0.84))
CALIBRATION = Calibration(
    name="t",
    created=dt.date(2026, 1, 1),
    statistic="min_margin",
    small="small",
    large="large",
    small_digest="",
    large_digest="",
    labels="labelled",
    data=CalibrationData("", 100, "test"),
    rows=tuple(CalibrationRow(*row) for row in ROWS),
    small_accuracy=0.6,
    large_accuracy=0.84,
    isotonic=((0.0, 0.1), (1.0, 0.5), (3.0, 0.9)),
    error=CalibrationError(0.01, 0.1, 0.01),
)


@given(st.floats(0, 1))
def test_shares_and_thresholds_are_each_others_inverse(share: float) -> None:
    assert share_for_threshold(CALIBRATION, threshold_for_share(CALIBRATION, share)) == pytest.approx(share)


def test_accuracy_holds_from_the_threshold_on() -> None:
    assert threshold_for_accuracy(CALIBRATION, 0.99) == 1.5
    assert threshold_for_accuracy(CALIBRATION, 0.8) == 0.5
    assert threshold_for_accuracy(CALIBRATION, 0.1) == 0.0


def test_probabilities_are_constant_beyond_the_data() -> None:
    assert probability_right(CALIBRATION, -1.0) == 0.1
    assert probability_right(CALIBRATION, 9.0) == 0.9
    assert probability_right(CALIBRATION, 2.0) == pytest.approx(0.7)


def test_a_cascade_starts_with_the_threshold_of_its_target() -> None:
    defer = Defer(artefact=CALIBRATION)
    assert threshold_of(Defer(threshold=0.3), None) == 0.3
    assert threshold_of(defer, Target(large_share=0.2)) == 0.5
    assert threshold_of(defer, Target(accuracy_of_large=0.99)) == 1.5
    assert threshold_of(defer, Target(budget_per_day=9.0)) == threshold_for_share(CALIBRATION, 0.5)


def test_shares_of_0_and_1_hold_for_statistics_beyond_the_data() -> None:
    assert threshold_for_share(CALIBRATION, 0.0) == float("-inf")
    assert threshold_for_share(CALIBRATION, 1.0) == float("inf")
