"""How long a scenario's run takes, and how much of it is measured."""

from loadtests.model.scenario import RatePhase, Scenario

_WARM_UP_SHARE = 0.1
_LONGEST_WARM_UP_S = 30.0


def phases_of(scenario: Scenario) -> tuple[RatePhase, ...]:
    """The rates over the run; () for a closed loop."""
    arrivals = scenario.arrivals
    if arrivals.phases or arrivals.rate is None:
        return arrivals.phases
    return (RatePhase(lasts=scenario.duration, rate=arrivals.rate),)


def duration_of(scenario: Scenario) -> float:
    """Seconds in which requests are meant to be sent."""
    if scenario.arrivals.phases:
        return float(sum(phase.lasts for phase in scenario.arrivals.phases))
    return float(scenario.duration)


def warm_up_of(scenario: Scenario) -> float:
    """Seconds at the beginning whose requests are in no total."""
    if scenario.warm_up is not None:
        return float(scenario.warm_up)
    return min(_WARM_UP_SHARE * duration_of(scenario), _LONGEST_WARM_UP_S)


def warm_up_rule(scenario: Scenario) -> str:
    """In words, for the report."""
    seconds = warm_up_of(scenario)
    why = "given" if scenario.warm_up is not None else "a tenth of the run, at most 30 s"
    return f"requests meant to be sent in the first {seconds:g} s are in no total ({why})"


def arrivals_of(scenario: Scenario) -> float:
    """The number of arrivals that is to be expected in an open loop; 0.0 for a closed one."""
    return sum(
        phase.lasts * (phase.rate + (phase.rate if phase.to is None else phase.to)) / 2 for phase in phases_of(scenario)
    )
