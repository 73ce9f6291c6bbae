"""Draws numbers and times from a scenario's distributions, with a generator that is passed in."""

import math
from random import Random

from loadtests.model.lengths import Lengths, PauseTimes

_Z95 = 1.6448536269514722
"""The 95th percentile of the normal distribution."""


def draw_length(lengths: Lengths, rng: Random) -> int:
    """At least 1."""
    if lengths.exactly is not None:
        return min(lengths.exactly, lengths.at_most)
    if lengths.low is not None and lengths.high is not None:
        return min(rng.randint(lengths.low, lengths.high), lengths.at_most)
    if lengths.values:
        return min(rng.choice(lengths.values), lengths.at_most)
    return max(1, min(round(_log_normal(lengths.median, lengths.p95, rng)), lengths.at_most))


def draw_pause(pauses: PauseTimes, rng: Random) -> float:
    """Seconds."""
    if pauses.exactly is not None:
        return min(float(pauses.exactly), pauses.at_most)
    return min(_log_normal(pauses.median, pauses.p95, rng), pauses.at_most)


def _log_normal(median: float | None, p95: float | None, rng: Random) -> float:
    assert median is not None, "check_scenario lets exactly one form through"
    assert p95 is not None, "check_scenario lets exactly one form through"
    sigma = math.log(p95 / median) / _Z95
    # Bounded: a far tail is no number of tokens.
    return median * math.exp(min(sigma * rng.gauss(0.0, 1.0), 50.0))
