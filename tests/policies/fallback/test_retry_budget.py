"""Retries stay in proportion to requests."""

from hypothesis import given, settings
from hypothesis import strategies as st

from config.model.routing import RetryBudgetSettings
from policies.fallback.retry_budget import RetryBudget


def test_requests_pay_for_retries() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0.5, min_per_second=0))
    assert not budget.take(0.0)
    budget.request()
    budget.request()
    assert budget.take(0.0)
    assert not budget.take(100.0)
    assert budget.statistics().refused_total == 2


def test_only_so_many_are_saved_up() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0.5, min_per_second=0))
    for _ in range(1000):
        budget.request()
    assert sum(budget.take(0.0) for _ in range(100)) == 10


def test_time_pays_for_a_few() -> None:
    budget = RetryBudget(RetryBudgetSettings(ratio=0, min_per_second=2))
    assert [budget.take(0.0) for _ in range(3)] == [True, True, False]
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
        assert taken <= per_second + requests * ratio + now * per_second + 1e-9
