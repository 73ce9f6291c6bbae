"""Histograms: each observation in one bucket, the bounds included, and a last bucket for the rest."""

from hypothesis import given
from hypothesis import strategies as st

from actors.api.statistics import LATENCY_BOUNDS_S, HistogramCounter, ServiceCounters


@given(st.lists(st.floats(0, 200), max_size=50))
def test_every_observation_is_in_the_first_bucket_whose_bound_it_does_not_exceed(seconds: list[float]) -> None:
    counter = HistogramCounter()
    for each in seconds:
        counter.add(each)
    found = counter.frozen()
    assert found.bounds == LATENCY_BOUNDS_S
    below = 0.0
    for count, bound in zip(found.counts, (*LATENCY_BOUNDS_S, float("inf")), strict=True):
        assert count == sum(below < each <= bound or each == below == 0.0 for each in seconds)
        below = bound
    assert sum(found.counts) == len(seconds)
    assert found.sum == sum(seconds)


def test_what_was_frozen_stays_as_it_was() -> None:
    counters = ServiceCounters()
    counters.ttft.add(0.3)
    before = counters.latency()
    counters.ttft.add(0.3)
    counters.itl.add(1000.0)
    assert (sum(before.ttft.counts), sum(before.itl.counts)) == (1, 0)
    after = counters.latency()
    assert (sum(after.ttft.counts), after.itl.counts[-1], sum(after.e2e.counts)) == (2, 1, 0)
