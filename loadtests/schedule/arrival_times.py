"""When requests are meant to be sent: arrivals of an open loop over phases of constant or changing rates.

Gaps are drawn for a rate of one, and the sum of them is then stretched so that the rate is the wanted one at each
moment (Lewis & Shedler 1979; Çinlar 1975): ramps and steps keep the kind of the arrivals.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loadtests.model.scenario import Arrivals, RatePhase, Scenario
from loadtests.model.timing import arrivals_of, phases_of

Times = npt.NDArray[np.float64]


def arrival_times(scenario: Scenario) -> Times:
    """Seconds from the beginning of the run, ascending; none for a closed loop."""
    phases = phases_of(scenario)
    total = arrivals_of(scenario)
    if total <= 0:
        return np.empty(0)
    return _stretched(_unit_arrivals(scenario.arrivals, total, scenario.seed), phases)


def _unit_arrivals(arrivals: Arrivals, total: float, seed: int) -> Times:
    """Arrivals at a rate of one, below `total`."""
    if arrivals.kind == "constant":
        return np.arange(math.ceil(total - 1e-9), dtype=np.float64)
    rng = np.random.default_rng([seed, 1])
    spread = arrivals.burstiness if arrivals.kind == "gamma" else 1.0
    found: list[Times] = []
    reached = 0.0
    while reached < total:
        count = int((total - reached) * 1.1 + 64)
        gaps = rng.exponential(1.0, count) if spread == 1.0 else rng.gamma(1 / spread**2, spread**2, count)
        found.append(reached + np.cumsum(gaps))
        reached = float(found[-1][-1])
    times = np.concatenate(found)
    return times[times < total]


def _stretched(units: Times, phases: Sequence[RatePhase]) -> Times:
    """The times at which the integral of the rate reaches these values."""
    found: list[Times] = []
    begin, done = 0.0, 0.0
    for phase in phases:
        first = phase.rate
        slope = ((phase.rate if phase.to is None else phase.to) - first) / phase.lasts
        amount = first * phase.lasts + slope * phase.lasts**2 / 2
        mine = units[(units >= done) & (units < done + amount)] - done
        if len(mine):
            # first * t + slope / 2 * t² = amount, in the form that is stable for small slopes.
            root = np.sqrt(np.maximum(first**2 + 2 * slope * mine, 0.0))
            times = 2 * mine / np.maximum(first + root, 1e-300)
            found.append(begin + np.minimum(times, phase.lasts))
        begin += phase.lasts
        done += amount
    return np.concatenate(found) if found else np.empty(0)
