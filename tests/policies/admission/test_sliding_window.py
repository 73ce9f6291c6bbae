"""Sums over a sliding window, at the edges of slices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.admission.sliding_window import SlidingWindow
from policies.errors import IntegrityError


def window(*added: tuple[int, float], over_s: float = 60.0, slice_s: float = 5.0) -> SlidingWindow:
    made = SlidingWindow(over_s, slice_s)
    for amount, at in added:
        made.add(amount, at)
    return made


@pytest.mark.parametrize(
    ("added", "now", "total"),
    [
        ([], 0.0, 0),
        ([(7, 0.0)], 0.0, 7),
        # Until its whole slice, from 0 to 5, is older than the window.
        ([(7, 0.0)], 64.9, 7),
        ([(7, 0.0)], 65.0, 0),
        ([(7, 4.9)], 64.9, 7),
        ([(7, 4.9)], 65.0, 0),
        ([(7, 5.0)], 65.0, 7),
        ([(7, 5.0)], 70.0, 0),
        ([(7, 4.0), (5, 6.0), (3, 11.0)], 11.0, 15),
        ([(7, 4.0), (5, 6.0), (3, 11.0)], 65.0, 8),
        ([(7, 4.0), (5, 6.0), (3, 11.0)], 70.0, 3),
        ([(7, 4.0), (5, 6.0), (3, 11.0)], 75.0, 0),
    ],
)
def test_amounts_in_the_window(added: list[tuple[int, float]], now: float, total: int) -> None:
    made = window(*added)
    assert made.sum(now) == total
    made.check_integrity()


def test_one_slice_is_one_handle() -> None:
    made = SlidingWindow(60.0, 5.0)
    first, same, next_one = made.add(1, 0.0), made.add(2, 4.9), made.add(4, 5.0)
    assert first is same is not next_one
    assert (first.start, first.amount, next_one.start, next_one.amount) == (0.0, 3, 5.0, 4)
    # Aligned, so that steady traffic does not create a slice for every addition.
    assert made.add(8, 13.0).start == 10.0


def test_a_correction_counts_as_long_as_its_slice() -> None:
    made = SlidingWindow(60.0, 5.0)
    handle = made.add(10, 0.0)
    made.add(1, 20.0)
    made.correct(handle, -4)
    assert (made.sum(20.0), handle.amount, handle.live) == (7, 6, True)
    assert made.sum(65.0) == 1
    assert not handle.live
    made.correct(handle, -6)
    assert (made.sum(65.0), handle.amount) == (1, 6)
    made.check_integrity()


@pytest.mark.parametrize(
    ("amount", "limit", "wait_s"),
    [
        (11, 10, None),
        # 7 of the slice that begins at 0 count until 65, and 5 of the one at 5 until 70; it is 20 now.
        (8, 20, 0.0),
        (9, 20, 45.0),
        (15, 20, 45.0),
        (16, 20, 50.0),
        (20, 20, 50.0),
        (21, 20, None),
        (0, 12, 0.0),
        (1, 12, 45.0),
    ],
)
def test_when_an_amount_fits(amount: int, limit: int, wait_s: float | None) -> None:
    made = window((7, 4.0), (5, 6.0))
    assert made.fits_in_s(amount, limit, 20.0) == wait_s
    if wait_s:
        assert made.sum(20.0 + wait_s - 0.01) + amount > limit
        assert made.sum(20.0 + wait_s) + amount <= limit


def test_integrity_is_really_checked() -> None:
    made = window((7, 4.0))
    made._sum += 1
    with pytest.raises(IntegrityError):
        made.check_integrity()
    with pytest.raises(IntegrityError):
        made.fits_in_s(8, 8, 4.0)
    negative = window((7, 4.0))
    negative.correct(negative.add(0, 4.0), -8)
    with pytest.raises(IntegrityError):
        negative.check_integrity()


def test_what_is_restored_out_of_order_counts_from_its_own_time() -> None:
    made = window((1, 100.0))
    made.restore(2, 51.0)
    made.restore(4, 71.0)
    made.restore(8, 53.0)
    made.check_integrity()
    # Slices of five seconds: the two of 50 to 55 end together, then that of 70, then that of 100.
    assert [made.sum(at) for at in (114.9, 115.0, 134.9, 135.0, 164.9, 165.0)] == [15, 5, 5, 1, 1, 0]


def test_an_empty_window_is_restored_in_any_order() -> None:
    made = window()
    for amount, at in ((1, 53.0), (2, 71.0), (4, 51.0), (8, 72.0)):
        made.restore(amount, at)
        made.check_integrity()
    assert [made.sum(at) for at in (114.9, 115.0, 134.9, 135.0)] == [15, 10, 10, 0]


def test_it_is_empty_when_its_last_slice_ends() -> None:
    assert window().empties_in_s(7.0) == 0.0
    assert window((1, 0.0)).empties_in_s(7.0) == 58.0
    assert window((3, 0.0), (2, 12.0)).empties_in_s(12.0) == 63.0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 9), st.integers(0, 9)), max_size=40), st.integers(1, 30))
def test_a_window_never_forgets_too_early_nor_keeps_too_long(steps: list[tuple[float, int, int]], limit: int) -> None:
    window = SlidingWindow(10.0, 1.0)
    added: list[tuple[float, int]] = []
    now = 0.0
    for passed, amount, less in steps:
        now += passed
        handle = window.add(amount, now)
        window.correct(handle, -min(less, amount))
        added.append((now, amount - min(less, amount)))
        window.check_integrity()
        counted = window.sum(now)
        assert counted >= sum(amount for at, amount in added if at > now - 10)
        assert counted <= sum(amount for at, amount in added if at > now - 11)
        wait_s = window.fits_in_s(1, limit, now)
        assert wait_s is not None
        assert (wait_s == 0) == (counted + 1 <= limit)
    if added:
        wait_s = window.fits_in_s(limit, limit, now)
        assert wait_s is not None
        assert window.sum(now + wait_s) + limit <= limit
    assert window.fits_in_s(limit + 1, limit, now) is None


def test_a_late_correction_changes_nothing() -> None:
    window = SlidingWindow(10.0, 1.0)
    old = window.add(5, 0.0)
    assert window.sum(20.0) == 0
    window.correct(old, -5)
    assert window.sum(20.0) == 0
    window._sum = 3
    with pytest.raises(IntegrityError):
        window.check_integrity()
