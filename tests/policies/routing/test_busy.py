"""A switch with two thresholds and a least time on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.routing.busy import Hysteresis


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.5, 0.7, 0.8, 1.0]), st.sampled_from([0.0, 1.0, 5.0])), max_size=60)
)
def test_a_switch_does_not_flutter(steps: list[tuple[float, float]]) -> None:
    switch = Hysteresis(0.8, 0.5, 5.0)
    now = on_at = 0.0
    was = False
    for value, passed in steps:
        now += passed
        on = switch.update(value, now)
        if on and not was:
            assert value >= 0.8
            on_at = now
        elif was and not on:
            assert value < 0.5
            assert now - on_at >= 5.0
        elif was:
            assert value >= 0.5 or now - on_at < 5.0
        else:
            assert value < 0.8
        was = on


def test_release_above_enter_makes_no_switch() -> None:
    with pytest.raises(ValueError, match="must not be above"):
        Hysteresis(0.5, 0.8, 1.0)
