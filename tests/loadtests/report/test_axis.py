"""Where values lie on axes, and which labels they have."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.report.axis import PlotAxis, even_axis, log_axis


@pytest.mark.parametrize(
    ("axis", "shares"),
    [
        (PlotAxis(0, 10, str), {-1: 0, 0: 0, 5: 0.5, 10: 1, 11: 1}),
        (PlotAxis(1, 100, str, "log"), {1: 0, 10: 0.5, 100: 1, 0: 0}),
        (PlotAxis(0, 99.99, str, "percentile"), {0: 0, 90: 0.25, 99: 0.5, 99.9: 0.75, 99.99: 1}),
        (PlotAxis(3, 3, str), {3: 0}),
    ],
)
def test_places(axis: PlotAxis, shares: dict[float, float]) -> None:
    assert {value: round(axis.share(value), 6) for value in shares} == shares


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (PlotAxis(0, 10, str), [0, 2, 4, 6, 8, 10]),
        (PlotAxis(0, 0.03, str), [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03][::1]),
        (PlotAxis(0.001, 1, str, "log"), [0.001, 0.01, 0.1, 1]),
        (PlotAxis(0, 99.5, str, "percentile"), [0, 50, 75, 90, 95, 99]),
    ],
)
def test_labels(axis: PlotAxis, ticks: list[float]) -> None:
    assert [round(each, 9) for each in axis.ticks(7 if axis.high == 0.03 else 6)] == ticks


@given(st.lists(st.floats(0, 1e5), max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_values_have_a_place_and_a_few_labels(values: list[float]) -> None:
    for axis in (log_axis(values, str), even_axis(values, str)):
        assert axis.low < axis.high
        assert 1 <= len(axis.ticks()) <= 8
        assert all(0 <= axis.share(value) <= 1 for value in values)
