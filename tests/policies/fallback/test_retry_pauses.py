"""Pauses before the same rung is asked again."""

from hypothesis import given
from hypothesis import strategies as st

from policies.fallback.retry_pauses import Pauses
from policies.model.plan import PlannedRung

RUNG = PlannedRung(to="cloud", is_upstream=True, wait_out_s=2.0)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_pauses_grow_within_bounds(draws: list[float]) -> None:
    pauses = Pauses()
    for number, draw in enumerate(draws):
        at = pauses.before_retry(100.0, draw, 1000.0)
        assert at is not None
        most = min(0.5 * 2**number, 8.0)
        assert most * 0.0999 <= at - 100.0 <= most


def test_a_retry_that_would_come_after_the_deadline_is_none() -> None:
    assert Pauses().before_retry(0.0, 0.0, 0.5) is None
    assert Pauses().before_retry(0.0, 1.0, 0.5) is not None


@given(st.floats(0, 700), st.floats(0, 1))
def test_a_pause_is_waited_out_whole_and_once(pause_s: float, draw: float) -> None:
    pauses = Pauses()
    at = pauses.waited_out(RUNG, pause_s, 100.0, draw, 101.5)
    assert (at is not None) == (pause_s <= 2.0 and 100.0 + pause_s + 0.1 * (1 - 0.9 * draw) < 101.5)
    if at is not None:
        assert at > 100.0 + pause_s
        assert pauses.waited_out(RUNG, 0.0, 200.0, draw, 1e9) is None


def test_without_a_word_of_the_policy_nobody_waits() -> None:
    assert Pauses().waited_out(PlannedRung(to="cloud"), 0.0, 0.0, 0.0, 1e9) is None
