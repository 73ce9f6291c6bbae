"""A daily budget lasts for the day; a share that drifts is detected."""

import random

import pytest

from policies.rollout.budget_controller import BudgetController
from tests.policies.cascade.test_calibration import CALIBRATION

MIDNIGHT = 1_780_012_800.0 // 86_400 * 86_400
SMALL, LARGE = 0.001, 0.01


def end(budget_controller: BudgetController, at: float, cost: float, held: float = 0.0) -> None:
    budget_controller.pay(at, cost, held)
    budget_controller.learn(at, SMALL, LARGE)


def day(budget: float, requests: int, *, waves: bool, seed: int = 1) -> tuple[float, float]:
    """Money spent over a day and the share that escalated; demand in waves or even."""
    rng = random.Random(seed)
    budget_controller = BudgetController(budget, CALIBRATION, MIDNIGHT, 0.5)
    escalated = 0
    times = sorted(
        MIDNIGHT + 86_400 * (rng.random() if not waves or rng.random() < 0.3 else rng.betavariate(6, 4))
        for _ in range(requests)
    )
    for at in times:
        large = rng.random() < budget_controller.share
        escalated += large
        end(budget_controller, at, SMALL + LARGE * large)
    return budget_controller.spent, escalated / requests


@pytest.mark.parametrize("waves", [False, True])
@pytest.mark.parametrize("budget", [12.0, 30.0, 60.0])
def test_the_money_lasts_and_is_used(budget: float, waves: bool) -> None:
    # Ten thousand requests cost 10 on small alone and 110 if all escalate.
    spent, _ = day(budget, 10_000, waves=waves)
    # Small answers are always made: where they cost most of the budget, an unforeseen wave overdraws it a little.
    assert spent <= budget * (1.02 if budget > 15 else 1.1)
    assert spent >= budget * 0.85


def test_more_money_than_needed_sends_everything_to_large() -> None:
    spent, share = day(1000.0, 5000, waves=False)
    assert share > 0.98
    assert spent < 60


def test_a_new_day_starts_anew() -> None:
    budget_controller = BudgetController(1.0, CALIBRATION, MIDNIGHT, 0.5)
    for number in range(200):
        end(budget_controller, MIDNIGHT + number, 0.01)
    assert budget_controller.share == 0.0
    assert budget_controller.update(MIDNIGHT + 86_400 + 1) > 0
    assert budget_controller.spent == 0.0


def burst(
    allowance: float, *, at: float, spent: float, requests: int = 150, budget: float = 100.0
) -> tuple[int, BudgetController]:
    """How many of a burst's requests, half a second apart, go to the large model."""
    rng = random.Random(3)
    budget_controller = BudgetController(budget, CALIBRATION, at, 0.5, allowance)
    budget_controller.restore(spent)
    large = 0
    for number in range(requests):
        now = at + number / 2
        budget_controller.update(now)
        chosen = rng.random() < budget_controller.share
        large += chosen
        end(budget_controller, now, SMALL + LARGE * chosen)
    return large, budget_controller


def test_a_first_burst_may_spend_ahead_of_the_pace() -> None:
    """150 requests cost 1.5 of a day's 100, which is within the burst."""
    large, budget_controller = burst(0.1, at=MIDNIGHT + 60, spent=0.0)
    assert large > 140
    assert budget_controller.spent < 2
    mean, _ = burst(0.0, at=MIDNIGHT + 60, spent=0.0)
    assert mean < 30, "without an allowance the burst is taken for the traffic of the day"


def test_the_allowance_is_all_that_is_spent_ahead() -> None:
    large, _ = burst(0.1, at=MIDNIGHT + 60, spent=0.0, requests=20_000, budget=10.0)
    on_pace = 10.0 * (60 + 10_000) / 86_400
    # Small answers are always made: 20,000 of them cost 20.
    assert large * LARGE < on_pace + 0.1 * 10.0 + 0.1


def test_what_quiet_hours_did_not_spend_may_be_spent_in_a_burst() -> None:
    noon = MIDNIGHT + 43_200
    saved, _ = burst(0.1, at=noon, spent=5.0, requests=2000)
    behind, _ = burst(0.1, at=noon, spent=65.0, requests=2000)
    assert saved > 1900
    assert behind < 200


def test_the_cost_of_running_requests_counts_as_spent() -> None:
    """A thousand requests at the same moment do not all spend the same money."""
    rng = random.Random(4)
    budget_controller = BudgetController(1.0, CALIBRATION, MIDNIGHT + 60, 0.5, 0.1)
    for number in range(20):
        end(budget_controller, MIDNIGHT + 60 + number, SMALL)
    spent = budget_controller.spent
    held: list[tuple[float, float]] = []
    for _ in range(1000):
        large = rng.random() < budget_controller.share
        held.append((budget_controller.hold(MIDNIGHT + 90, SMALL + LARGE), SMALL + LARGE * large))
    for money, cost in held:
        budget_controller.pay(MIDNIGHT + 100, cost, money)
    escalated = sum(cost > SMALL for _, cost in held)
    assert escalated * LARGE < 0.2, "a fifth of the day's money at most, of which a tenth may go in a burst"
    assert budget_controller.spent - spent == pytest.approx(sum(cost for _, cost in held))
    assert budget_controller.share == 0.0
