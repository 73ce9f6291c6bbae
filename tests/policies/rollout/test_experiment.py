"""Arms are stable for a unit, in proportion, and independent between experiments."""

from collections import Counter

import pytest

from config.model.rollout import ExperimentSettings
from policies.model.features import Features
from policies.rollout.experiment import Split


def asks(**units: str) -> Features:
    return Features(model="m", tenant=units.pop("tenant", "acme"), tier="t", prompt_tokens=1, max_tokens=1, **units)


def split(name: str = "e", unit: str = "conversation", **arms: float) -> Split:
    return Split.of(ExperimentSettings(name=name, route=("r",), unit=unit, arms=arms))  # type: ignore[arg-type]


def test_arms_get_their_share_and_keep_their_units() -> None:
    both = split(control=80, b=20)
    arms = [both.arm(asks(conversation=f"c{i}")) for i in range(5000)]
    assert arms == [both.arm(asks(conversation=f"c{i}")) for i in range(5000)]
    # Four standard deviations of a binomial.
    assert Counter(arms)["b"] == pytest.approx(1000, abs=4 * (5000 * 0.2 * 0.8) ** 0.5)


def test_moving_a_boundary_moves_only_the_units_next_to_it() -> None:
    before, after = split(control=80, b=20), split(control=70, b=30)
    for i in range(1000):
        unit = asks(conversation=f"c{i}")
        if before.arm(unit) == "b":
            assert after.arm(unit) == "b"


def test_experiments_split_independently() -> None:
    one, two = split("one", control=50, b=50), split("two", control=50, b=50)
    pairs = Counter((one.arm(asks(conversation=f"c{i}")), two.arm(asks(conversation=f"c{i}"))) for i in range(4000))
    assert all(count == pytest.approx(1000, abs=120) for count in pairs.values())
    assert len(pairs) == 4


def test_a_request_without_the_unit_takes_no_part() -> None:
    assert split(unit="user", control=50, b=50).arm(asks()) is None
    assert split(unit="user", control=50, b=50).arm(asks(user="u")) is not None
    assert split(unit="tenant", control=100).arm(asks()) == "control"
