"""Retries stay in proportion to active requests, and pause before the same rung is tried again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.routing import RetryBudgetSettings
from policies.fallback.retry_budget import Pauses, RetryBudget
from policies.model.plan import PlannedRung


@pytest.mark.parametrize(
    ("share", "at_least", "active", "expected"),
    [
        # Few requests, and many.
        (0.2, 3, 0, 3),
        (0.2, 3, 1, 3),
        (0.2, 3, 15, 3),
        (0.2, 3, 19, 3),
        (0.2, 3, 20, 4),
        (0.2, 3, 1000, 200),
        # No least, no share, neither.
        (0.2, 0, 4, 0),
        (0.1, 0, 30, 3),
        (0.0, 3, 1000, 3),
        (0.0, 0, 1000, 0),
        (1.0, 0, 7, 7),
    ],
)
def test_so_many_may_run(share: float, at_least: int, active: int, expected: int) -> None:
    budget = RetryBudget(RetryBudgetSettings(share=share, at_least=at_least), active=lambda: active)
    assert sum(budget.take() for _ in range(2000)) == expected
    figures = budget.statistics()
    assert (figures.running, figures.limit, figures.taken_total) == (expected, expected, expected)
    assert figures.refused_total == 2000 - expected


@settings(max_examples=80, deadline=None)
@given(
    share=st.sampled_from([0.0, 0.1, 0.5]),
    at_least=st.sampled_from([0, 1, 3]),
    steps=st.lists(st.tuples(st.sampled_from(["take", "give back"]), st.integers(0, 40), st.integers(0, 4))),
)
def test_no_retry_begins_beyond_the_limit(share: float, at_least: int, steps: list[tuple[str, int, int]]) -> None:
    active = hedges = running = 0
    budget = RetryBudget(
        RetryBudgetSettings(share=share, at_least=at_least), active=lambda: active, hedges=lambda: hedges
    )
    for what, active, hedges in steps:
        most = max(at_least, int(share * active + 1e-9))
        assert budget.limit == most
        assert budget.has_room() == (running + hedges < most)
        if what == "take":
            taken = budget.take()
            assert taken == (running + hedges < most)
            running += taken
        elif running:
            budget.give_back()
            running -= 1
        assert budget.statistics().running == running
        budget.check_integrity()


def test_an_end_that_is_reported_twice_makes_no_room() -> None:
    budget = RetryBudget(RetryBudgetSettings(share=0.0, at_least=1), active=lambda: 0)
    assert budget.take()
    for _ in range(3):
        budget.give_back()
    assert [budget.take(), budget.take()] == [True, False]


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
