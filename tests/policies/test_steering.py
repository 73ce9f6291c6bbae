"""A day's money lasts for the day; a share that drifts is noticed."""

import math
import random

import pytest

from policies.share_tracker import ShareTracker
from policies.steering import Steering
from tests.policies.test_calibration import CALIBRATION

MIDNIGHT = 1_780_012_800.0 // 86_400 * 86_400
SMALL, LARGE = 0.001, 0.01


def day(budget: float, requests: int, *, waves: bool, seed: int = 1) -> tuple[float, float]:
    """Money spent over a day and the share that escalated; demand in waves or even."""
    rng = random.Random(seed)
    steering = Steering(budget, CALIBRATION, MIDNIGHT, 0.5)
    escalated = 0
    times = sorted(
        MIDNIGHT + 86_400 * (rng.random() if not waves or rng.random() < 0.3 else rng.betavariate(6, 4))
        for _ in range(requests)
    )
    for at in times:
        large = rng.random() < steering.share
        escalated += large
        steering.on_end(at, SMALL + LARGE * large, SMALL, LARGE)
    return steering.spent, escalated / requests


@pytest.mark.parametrize("waves", [False, True])
@pytest.mark.parametrize("budget", [12.0, 30.0, 60.0])
def test_the_money_lasts_and_is_used(budget: float, waves: bool) -> None:
    # Ten thousand requests cost 10 on small alone and 110 if all escalate.
    spent, _ = day(budget, 10_000, waves=waves)
    # Small answers cannot be saved: where they are most of the money, a wave that nobody foresaw overdraws a little.
    assert spent <= budget * (1.02 if budget > 15 else 1.1)
    assert spent >= budget * 0.85


def test_more_money_than_needed_sends_everything_to_large() -> None:
    spent, share = day(1000.0, 5000, waves=False)
    assert share > 0.98
    assert spent < 60


def test_a_new_day_starts_anew() -> None:
    steering = Steering(1.0, CALIBRATION, MIDNIGHT, 0.5)
    for number in range(200):
        steering.on_end(MIDNIGHT + number, 0.01, SMALL, LARGE)
    assert steering.share == 0.0
    assert steering.update(MIDNIGHT + 86_400 + 1) > 0
    assert steering.spent == 0.0


def test_a_share_that_keeps_its_target_is_quiet_and_another_is_not() -> None:
    rng = random.Random(5)
    quiet, loud = ShareTracker(0.25), ShareTracker(0.25)
    changes = [quiet.add(rng.random() < 0.25) for _ in range(3000)]
    assert sum(changes) <= 2
    assert not quiet.view.drifted
    assert any(loud.add(rng.random() < 0.4) for _ in range(3000))
    assert loud.view.drifted
    assert math.isclose(loud.view.realised, 0.4, abs_tol=0.08)
