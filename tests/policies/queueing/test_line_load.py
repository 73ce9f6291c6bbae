"""How many requests of a tenant have to wait."""

import math

import pytest

from policies.queueing.line_load import LineLoad


def loaded(offered: int, taken: int, late: int, now: float = 0.0) -> LineLoad:
    load = LineLoad()
    for _ in range(offered):
        load.offered(now)
    for _ in range(taken):
        load.taken(now)
    for _ in range(late):
        load.late(now)
    return load


@pytest.mark.parametrize(
    ("offered", "taken", "enough"),
    [
        (100, 90, 15.3),
        (130, 100, 6.1),
        (200, 100, 2.3),
        (500, 100, 1.0),
        (1600, 100, 1.0),  # one at least
        (20, 0, 1.0),  # nothing started: the backend hangs
    ],
)
def test_the_higher_the_load_the_fewer_have_to_wait(offered: int, taken: int, enough: float) -> None:
    assert loaded(offered, taken, 1).enough == pytest.approx(enough, abs=0.06)


@pytest.mark.parametrize(("offered", "taken", "late"), [(0, 0, 0), (500, 100, 0), (100, 100, 5), (90, 100, 5)])
def test_any_number_may_wait_where_all_is_served_in_time(offered: int, taken: int, late: int) -> None:
    assert loaded(offered, taken, late).enough == math.inf


def test_the_ratio_is_that_of_late() -> None:
    load = loaded(500, 100, 5)
    assert load.ratio == pytest.approx(5.0)
    for second in range(1, 31):
        for _ in range(2):
            load.offered(second)
            load.taken(second)
        load.late(second)
    assert load.ratio == pytest.approx(1.0, abs=0.2)


def test_a_single_refusal_is_soon_forgotten() -> None:
    load = loaded(50, 10, 1)
    load.taken(3.0)
    assert load.enough < 2
    load.taken(4.0)
    assert load.enough == math.inf
