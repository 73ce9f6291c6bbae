"""Thresholds for shares and for accuracies."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import Calibration, CalibrationData, CalibrationError, CalibrationRow
from config.model.routing import Defer, Target
from policies.cascade.calibration import (
    probability_right,
    share_for_threshold,
    threshold_for_accuracy,
    threshold_for_share,
    threshold_of,
)

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
