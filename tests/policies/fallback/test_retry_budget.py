"""Retries stay in proportion to requests, and pause before the same rung is tried again."""

from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.routing import RetryBudgetSettings
from policies.fallback.retry_budget import Pauses, RetryBudget
from policies.model.plan import PlannedRung


def test_requests_pay_for_retries() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0.5, min_per_second=0))
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    budget.request()
    budget.request()
    assert budget.take(0.0)
    assert not budget.take(100.0)
    assert budget.statistics().refused_total == 2


def test_at_first_three_are_there_unless_nothing_is_to_be_retried() -> None:
    assert not RetryBudget(RetryBudgetSettings(ratio=0, min_per_second=0)).take(0.0)
    many = RetryBudget(RetryBudgetSettings(ratio=0, min_per_second=5))
    assert sum(many.take(0.0) for _ in range(10)) == 5


def test_only_so_many_are_saved_up() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0.5, min_per_second=0))
    for _ in range(1000):
        budget.request()
    assert sum(budget.take(0.0) for _ in range(100)) == 10


def test_time_pays_for_a_few() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0, min_per_second=2))
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(1.0) for _ in range(3)] == [True, True, False]
    # Saved for at most ten seconds.
    assert sum(budget.take(1000.0) for _ in range(100)) == 20


@settings(max_examples=80, deadline=None)
@given(
    ratio=st.sampled_from([0.0, 0.1, 0.25]),
    per_second=st.sampled_from([0.0, 0.5, 2.0]),
    steps=st.lists(st.sampled_from(["request", "take", "wait"]), max_size=300),
)
def test_never_more_than_was_paid_in(ratio: float, per_second: float, steps: list[str]) -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=ratio, min_per_second=per_second))
    now = 0.0
    requests = taken = 0
    for step in steps:
        if step == "request":
            budget.request()
            requests += 1
        elif step == "wait":
            now += 0.5
        else:
            taken += budget.take(now)
        budget.check_integrity()
        first = max(per_second, 3.0) if ratio or per_second else 0.0
        assert taken <= first + requests * ratio + now * per_second + 1e-9


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
