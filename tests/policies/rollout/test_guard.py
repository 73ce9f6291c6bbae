"""The sequential tests keep their false alarm rate under the null hypothesis, and detect real differences."""

import random

import pytest

from policies.rollout.guard import SampleRatioTest, WorseTest


def run(rng: random.Random, rates: tuple[float, float], share: float, answers: int, alpha: float) -> int | None:
    """The number of answers until it rejects; None: never."""
    test = WorseTest((1 - share) / share)
    for number in range(answers):
        in_arm = rng.random() < share
        test.add(arm=in_arm, bad=rng.random() < rates[in_arm])
        if test.rejects(alpha):
            return number
    return None


@pytest.mark.parametrize(("rate", "share"), [(0.05, 0.5), (0.3, 0.05), (0.02, 0.2)])
def test_the_false_alarm_rate(rate: float, share: float) -> None:
    rng = random.Random(1)
    alarms = sum(run(rng, (rate, rate), share, 1500, 0.05) is not None for _ in range(200))
    # At most ten are expected; plus four standard deviations.
    assert alarms <= 10 + 4 * 3.1


def test_a_better_arm_is_no_alarm() -> None:
    rng = random.Random(2)
    assert all(run(rng, (0.3, 0.1), 0.5, 1000, 0.05) is None for _ in range(50))


@pytest.mark.parametrize(("arm", "share", "within"), [(0.3, 0.5, 400), (0.5, 0.05, 1500), (1.0, 0.05, 400)])
def test_a_worse_arm_is_detected_soon(arm: float, share: float, within: int) -> None:
    rng = random.Random(3)
    found = [run(rng, (0.02, arm), share, 4000, 0.01) for _ in range(40)]
    assert all(number is not None for number in found)
    assert sorted(number for number in found if number is not None)[20] < within


def test_a_true_split_is_no_alarm_and_a_false_one_is() -> None:
    rng = random.Random(4)
    alarms = 0
    for _ in range(100):
        fair = SampleRatioTest({"control": 95, "b": 5})
        for _ in range(2000):
            fair.add("b" if rng.random() < 0.05 else "control")
        alarms += fair.rejects(0.05)
    assert alarms <= 5 + 4 * 2.2
    skewed = SampleRatioTest({"control": 95, "b": 5})
    for _ in range(3000):
        skewed.add("b" if rng.random() < 0.08 else "control")
    assert skewed.rejects(0.001)
