"""How many requests of a tenant have to wait."""

import msgspec
import pytest

from policies.queueing.line_load import LineLoad


def loaded(offered: int, taken: int, late: int, now: float = 0.0) -> LineLoad:
    load = LineLoad()
    for _ in range(offered):
        load.offered(now)
    for _ in range(taken):
        load.taken(now)
    for _ in range(late):
        load.refused(now)
    return load


@pytest.mark.parametrize(
    ("offered", "taken", "enough"),
    [
        (100, 90, 9.96),
        (130, 100, 4.0),
        (200, 100, 1.5),
        (500, 100, 1.0),
        (1600, 100, 1.0),  # one at least
        (20, 0, 1.0),  # nothing started: the backend hangs
    ],
)
def test_the_higher_the_load_the_fewer_have_to_wait(offered: int, taken: int, enough: float) -> None:
    load = loaded(offered, taken, 1)
    assert load.is_overloaded
    assert load.enough == pytest.approx(enough, abs=0.06)


@pytest.mark.parametrize(("offered", "caution"), [(101, 1.0), (200, 1.5), (1000, 1.9), (100_000, 2.0)])
def test_the_higher_the_load_the_larger_the_margin(offered: int, caution: float) -> None:
    assert loaded(offered, 100, 1).caution == pytest.approx(caution, abs=0.01)


@pytest.mark.parametrize(("offered", "taken", "late"), [(0, 0, 0), (500, 100, 0), (100, 100, 5), (90, 100, 5)])
def test_any_number_may_wait_where_all_is_served_in_time(offered: int, taken: int, late: int) -> None:
    assert not loaded(offered, taken, late).is_overloaded


def test_the_ratio_is_that_of_late() -> None:
    load = loaded(500, 100, 5)
    assert load.ratio == pytest.approx(5.0)
    for second in range(1, 31):
        for _ in range(2):
            load.offered(second)
            load.taken(second)
        load.refused(second)
    assert load.ratio == pytest.approx(1.0, abs=0.2)


def test_a_single_refusal_is_soon_forgotten() -> None:
    load = loaded(50, 10, 1)
    load.taken(3.0)
    assert load.is_overloaded
    load.taken(4.0)
    assert not load.is_overloaded


def test_one_more_is_looked_at_beforehand() -> None:
    load = loaded(50, 10, 5)
    before = msgspec.structs.astuple(load)
    more = load.with_one_more(2.0)
    assert msgspec.structs.astuple(load) == before
    load.offered(2.0)
    assert msgspec.structs.astuple(more) == msgspec.structs.astuple(load)
