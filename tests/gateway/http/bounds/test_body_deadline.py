"""Until when a body is waited for, however its parts come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.bounds.body_deadline import BodyDeadline
from tests.gateway.http.bounds.limits import LIMITS


@pytest.mark.parametrize(
    ("parts", "until"),
    [
        ([], 10.0),
        ([(1, 9.0)], 10.001),
        # One byte at a time buys its own millisecond.
        ([(1, float(each)) for each in range(1, 10)], 10.009),
        # Half of a large body at once buys no more than a head's time of silence.
        ([(4_000_000, 1.0)], 11.0),
        ([(4_000_000, 1.0), (1, 10.0)], 11.001),
        # The average: 10 s for a start, and a second for each 1000 bytes.
        ([(1000, 5.0), (1000, 6.0)], 12.0),
        # And never longer than the whole may take.
        ([(10_000, float(each)) for each in range(1, 60)], 60.0),
    ],
)
def test_until_when_a_body_is_waited_for(parts: list[tuple[int, float]], until: float) -> None:
    deadline = BodyDeadline(LIMITS, 0.0)
    for size, at in parts:
        assert at < deadline.at, "it was given up before"
        deadline.received(size, at)
    assert deadline.at == pytest.approx(until)


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 5)), max_size=60))
def test_no_sender_is_waited_for_longer_than_its_bounds(parts: list[tuple[int, float]]) -> None:
    deadline = BodyDeadline(LIMITS, 0.0)
    now, total = 0.0, 0
    for size, gap in parts:
        now += gap
        if now >= deadline.at:
            return
        total += size
        deadline.received(size, now)
        assert deadline.at <= min(60.0, now + 10.0, 10.0 + total / 1000 + 1e-6)
