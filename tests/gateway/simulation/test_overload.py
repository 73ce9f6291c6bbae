"""Overload on the virtual clock.

Goodput holds, premium keeps its promise, the quiet tenant its share, and a refused client that comes back gets in.
"""

from functools import cache

import msgspec
import pytest

from tests.gateway.simulation.overload import Result, arrivals, at, in_order, policy, result, run

CAPACITY = 11.0
"""Requests per second that the engine can serve."""
PEAK_AT = (9.0, 11.0, 13.0, 16.0)
EQUALS = {"loud": 10 / 11, "quiet": 1 / 11}


@cache
def played(admit_by: str, per_s: float) -> Result:
    return result(run(policy(admit_by), arrivals(per_s)))


def peak(admit_by: str) -> float:
    return max(played(admit_by, per_s).goodput_per_s for per_s in PEAK_AT)


@pytest.mark.parametrize("factor", [2, 5])
def test_goodput_holds_and_premium_keeps_its_promise(factor: int) -> None:
    found = played("slo", factor * CAPACITY)
    assert found.goodput_per_s >= 0.9 * peak("slo")
    assert found.goodput_per_s >= 0.9 * CAPACITY
    assert at(found.ttft_s["premium"], 0.99) <= 0.5
    # Most are refused at once, and nobody waits for longer than the answer could have been in time.
    assert at(found.refused_after_s, 0.5) < 0.05
    assert at(found.refused_after_s, 0.99) < 0.5


def test_by_the_bounds_of_the_queue_alone_goodput_collapses() -> None:
    """What `admit_by` is for; and that the figures above can fail."""
    assert played("queue", 2 * CAPACITY).goodput_per_s < 0.6 * peak("queue")
    assert at(played("queue", 2 * CAPACITY).ttft_s["standard"], 0.5) > 10


def jain(ratios: list[float]) -> float:
    return sum(ratios) ** 2 / (len(ratios) * sum(each**2 for each in ratios))


@pytest.mark.parametrize("factor", [2, 5])
def test_of_two_equal_tenants_the_quiet_one_is_served_all_that_fits_its_share(factor: int) -> None:
    found = result(run(policy("slo"), arrivals(factor * CAPACITY, shares=EQUALS)))
    demand = found.offered_per_s["quiet"]
    quiet = min(demand, found.goodput_per_s / 2)
    loud = found.goodput_per_s - quiet
    # At five times the capacity its demand is nine tenths of its share, and comes in bursts.
    assert found.by_tenant["quiet"] >= 0.85 * quiet
    assert jain([found.by_tenant["quiet"] / quiet, found.by_tenant["loud"] / loud]) >= 0.95


def test_half_of_those_who_come_back_when_they_were_told_to_get_in() -> None:
    burst = in_order([*arrivals(4.0, until=100.0), *arrivals(5 * CAPACITY, since=20.0, until=24.0, seed=2)])
    first = run(policy("slo"), burst)
    told = [each for each in first.answers if each.retry_after_s is not None and each.arrived_at >= 20.0]
    assert len(told) > 100
    again = {each.ended_at + each.retry_after_s: each.request for each in told if each.retry_after_s is not None}
    back = [msgspec.structs.replace(request, at=due, user="back") for due, request in again.items()]
    # Not all at once.
    assert max(again) - min(again) > 10
    second = run(policy("slo"), in_order([*burst, *back]))
    came = [each for each in second.answers if each.request.user == "back"]
    assert len(came) == len(back)
    assert sum(each.outcome == "ok" for each in came) >= 0.5 * len(came)
