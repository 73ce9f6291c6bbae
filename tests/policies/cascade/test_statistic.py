"""The deferral statistics: their values, and that those that must not rise do not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model.calibration import Statistic
from policies.cascade.statistic import falls, new_statistic, statistic_of

NAMES: tuple[Statistic, ...] = ("min_margin", "joint_margin", "low_quantile")
answers = st.lists(st.floats(0, 50), min_size=1, max_size=30).map(tuple)


@pytest.mark.parametrize(
    ("name", "margins", "expected"),
    [
        ("min_margin", (3.0, 1.0, 2.0), 1.0),
        ("min_margin", (), math.inf),
        ("joint_margin", (0.0, 0.0), math.log(1 / 3)),
        ("joint_margin", (1.25, math.inf), 1.25),
        ("joint_margin", (30.0,), 30.0),
        ("joint_margin", (0.0,) * 100, -100 * math.log(2)),
        ("joint_margin", (math.inf,), math.inf),
        ("joint_margin", (), math.inf),
        ("low_quantile", (5.0,), 5.0),
        ("low_quantile", (2.0, 1.0), 1.1),
        ("low_quantile", tuple(map(float, range(11))), 1.0),
        ("low_quantile", (math.inf, math.inf, 1.0), math.inf),
        ("low_quantile", (), math.inf),
    ],
)
def test_values(name: Statistic, margins: tuple[float, ...], expected: float) -> None:
    assert statistic_of(name, margins) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_nan_margin_is_kept(name: Statistic, place: int) -> None:
    margins = [1.0, 5.0]
    margins.insert(place, math.nan)
    assert math.isnan(statistic_of(name, tuple(margins)))


@given(answers)
def test_what_falls_never_rises(margins: tuple[float, ...]) -> None:
    for name in NAMES:
        statistic = new_statistic(name)
        last = statistic.value
        for margin in margins:
            statistic.add(margin)
            if falls(name):
                assert statistic.value <= last
            last = statistic.value


def test_a_quantile_rises_again() -> None:
    assert not falls("low_quantile")
    assert statistic_of("low_quantile", (1.0,)) < statistic_of("low_quantile", (1.0, 9.0, 9.0))


@given(answers)
def test_order_does_not_matter(margins: tuple[float, ...]) -> None:
    for name in NAMES:
        assert statistic_of(name, margins) == pytest.approx(statistic_of(name, margins[::-1]))


def test_one_low_margin_in_a_long_answer_hardly_changes_the_quantile_alone() -> None:
    stumble, doubts = (0.1, *[9.0] * 29), (1.5,) * 30
    assert statistic_of("min_margin", stumble) < statistic_of("min_margin", doubts)
    assert statistic_of("low_quantile", stumble) > statistic_of("low_quantile", doubts)
    assert statistic_of("joint_margin", stumble) > statistic_of("joint_margin", doubts)
