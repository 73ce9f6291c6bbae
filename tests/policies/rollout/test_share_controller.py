"""The controller keeps a share on prompts that the calibration does not fit; drift from the target is noticed."""

import math
import random
from collections import deque

import pytest

from policies.cascade.calibration import share_for_threshold
from policies.rollout.share_controller import ShareController, ShareTracker
from tests.policies.cascade.test_calibration import CALIBRATION


def test_a_share_that_keeps_its_target_is_quiet_and_another_is_not() -> None:
    rng = random.Random(5)
    quiet, loud = ShareTracker(0.25), ShareTracker(0.25)
    changes = [quiet.add(rng.random() < 0.25) for _ in range(3000)]
    assert sum(changes) <= 2
    assert not quiet.view.drifted
    assert any(loud.add(rng.random() < 0.4) for _ in range(3000))
    assert loud.view.drifted
    assert math.isclose(loud.view.realised, 0.4, abs_tol=0.08)


def shares(target: float, shift: float, *, under_way: int, seed: int, held: bool = True) -> list[float]:
    """The share in every 500 consecutive requests; the log-odds of going to the large model are off by `shift`."""
    rng = random.Random(seed)
    holder = ShareController(target, CALIBRATION)
    first = holder.threshold
    waiting: deque[tuple[float, bool]] = deque()
    went: list[bool] = []
    for _ in range(1500):
        threshold = holder.threshold if held else first
        planned = share_for_threshold(CALIBRATION, threshold) if math.isfinite(threshold) else float(threshold > 0)
        planned = min(max(planned, 1e-6), 1 - 1e-6)
        large = rng.random() < 1 / (1 + math.exp(-(math.log(planned / (1 - planned)) + shift)))
        went.append(large)
        waiting.append((threshold, large))
        if len(waiting) > under_way:
            holder.add(*waiting.popleft())
    return [sum(went[begin : begin + 500]) / 500 for begin in (0, 500, 1000)]


@pytest.mark.parametrize("under_way", [0, 20, 60])
@pytest.mark.parametrize("shift", [-1.0, 1.0, 1.5])
@pytest.mark.parametrize("target", [0.1, 0.25, 0.5])
def test_it_is_back_within_three_points_after_five_hundred_requests(
    target: float, shift: float, under_way: int
) -> None:
    for seed in range(3):
        _, second, third = shares(target, shift, under_way=under_way, seed=seed)
        assert second == pytest.approx(target, abs=0.03)
        assert third == pytest.approx(target, abs=0.03)
    assert abs(shares(target, shift, under_way=under_way, seed=0, held=False)[1] - target) > 0.04


def test_with_a_fitting_calibration_the_threshold_moves_little() -> None:
    for seed in range(5):
        assert shares(0.25, 0.0, under_way=20, seed=seed) == pytest.approx([0.25] * 3, abs=0.03)


@pytest.mark.parametrize(("target", "threshold"), [(0.0, -math.inf), (1.0, math.inf)])
def test_none_and_all_need_no_learning(target: float, threshold: float) -> None:
    holder = ShareController(target, CALIBRATION)
    for _ in range(50):
        holder.add(holder.threshold, target == 0.0)
    assert holder.threshold == threshold


def test_prompts_that_never_or_always_go_to_large_do_no_harm() -> None:
    for large in (False, True):
        holder = ShareController(0.25, CALIBRATION)
        for _ in range(3000):
            holder.add(holder.threshold, large)
        planned = share_for_threshold(CALIBRATION, holder.threshold)
        assert planned < 0.05 if large else planned > 0.9
