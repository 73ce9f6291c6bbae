import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.model.table import Seconds
from loadtests.model.scenario import Arrivals, RatePhase, Scenario
from loadtests.model.timing import arrivals_of, duration_of
from loadtests.schedule.arrival_times import arrival_times


def of(kind: str = "poisson", seed: int = 1, **more) -> Scenario:
    return Scenario(
        schema=1, seed=seed, duration=Seconds(more.pop("duration", 100)), arrivals=Arrivals(kind=kind, **more)
    )


PHASES = st.lists(
    st.builds(RatePhase, lasts=st.floats(0.5, 20).map(Seconds), rate=st.floats(0, 20), to=st.none() | st.floats(0, 20)),
    min_size=1,
    max_size=4,
)


@given(PHASES, st.sampled_from(["constant", "poisson", "gamma"]), st.integers(0, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_times_ascend_within_the_run_and_follow_from_the_seed(phases, kind, seed) -> None:
    scenario = of(kind, seed, phases=tuple(phases))
    times = arrival_times(scenario)
    assert np.all(np.diff(times) >= 0)
    assert len(times) == 0 or (times[0] >= 0 and times[-1] <= duration_of(scenario) + 1e-9)
    assert np.array_equal(times, arrival_times(scenario))


@given(PHASES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_constant_arrivals_are_as_many_as_the_rate_says(phases) -> None:
    scenario = of("constant", phases=tuple(phases))
    assert abs(len(arrival_times(scenario)) - arrivals_of(scenario)) <= 1


def test_constant_arrivals_are_even() -> None:
    assert np.allclose(arrival_times(of("constant", rate=4, duration=2)), np.arange(8) / 4)


@pytest.mark.parametrize(
    ("kind", "burstiness", "spread"),
    [("poisson", 2.0, 1.0), ("gamma", 3.0, 3.0), ("gamma", 0.5, 0.5)],
)
def test_gaps_are_spread_as_asked(kind: str, burstiness: float, spread: float) -> None:
    gaps = np.diff(arrival_times(of(kind, rate=50, burstiness=burstiness, duration=1000)))
    assert np.mean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(spread, rel=0.05)


def test_a_ramp_has_the_wanted_rate_at_each_moment() -> None:
    times = arrival_times(of(phases=(RatePhase(lasts=Seconds(100), rate=0, to=100),)))
    counts, _ = np.histogram(times, bins=10, range=(0, 100))
    assert counts == pytest.approx([50 + 100 * place for place in range(10)], rel=0.25, abs=15)


def test_another_seed_gives_other_times_and_a_closed_loop_none() -> None:
    assert not np.array_equal(arrival_times(of(rate=1)), arrival_times(of(rate=1, seed=2)))
    assert len(arrival_times(of("closed", clients=3))) == 0
