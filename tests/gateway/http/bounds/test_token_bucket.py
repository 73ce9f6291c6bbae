"""No more through than the rate, and never more kept than a second's worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.bounds.token_bucket import TokenBucket


@given(st.lists(st.floats(0, 0.1), min_size=1, max_size=300), st.integers(10, 100))
def test_a_bucket_lets_no_more_through_than_its_rate(gaps: list[float], rate: int) -> None:
    """A taker that waits as it is told."""
    bucket = TokenBucket(rate, 0.0)
    now = 0.0
    for number, gap in enumerate(gaps):
        now += gap
        now += bucket.take(now)
        assert number + 1 <= rate * (now + 1) + 1e-6


def test_a_bucket_keeps_a_second() -> None:
    bucket = TokenBucket(10, 0.0)
    assert [bucket.take(100.0) for _ in range(10)] == [0.0] * 10
    assert bucket.take(100.0) == pytest.approx(0.1)
    assert bucket.take(100.3) == 0.0
