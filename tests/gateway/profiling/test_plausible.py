"""What a quiet machine cannot have measured is said."""

import msgspec

from gateway.profiling.plausible import doubts
from gateway.profiling.profile import Profile, ServiceTimes
from gateway.simulation.compare import simulate
from tests.gateway.simulation.worlds import policy, profile, trace


def served(alone: float, beside: float) -> Profile:
    """The small engine's pauses, in seconds, by itself and beside another one."""
    found = profile()
    services = {"served": ServiceTimes(pauses=(alone,)), "beside": ServiceTimes(pauses=(beside,))}
    small = msgspec.structs.replace(found.engines["small"], **services)
    return msgspec.structs.replace(found, engines={**found.engines, "small": small})


def test_a_plausible_profile_raises_no_doubt() -> None:
    assert doubts(profile()) == ()
    assert doubts(served(0.001, 0.004)) == ()


def test_no_engine_is_faster_beside_another_one() -> None:
    (said,) = doubts(served(0.004, 0.001))
    assert said.startswith("engine small: a decode takes 8.")
    assert "not idle" in said


def test_a_step_in_service_has_some_relation_to_its_own_time() -> None:
    (said,) = doubts(served(0.3, 0.3))
    assert "in service" in said


def test_a_simulation_tells_the_doubts_of_its_profile() -> None:
    comparison = simulate(
        {"policy": policy()},
        served(0.004, 0.001),
        trace(1, 20),
        trace_name="t",
        profile_name="p",
        seed=0,
        speed=1.0,
        shares={},
        progress=lambda _: None,
    )
    assert any("not idle" in note for note in comparison.notes)
