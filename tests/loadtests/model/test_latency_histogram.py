import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.model.latency_histogram import LatencyHistogram, merged, ranks

TIMES = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=60)


def of(values: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    histogram.add(values)
    return histogram


@given(TIMES, TIMES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_merging_loses_nothing(some: list[float], others: list[float]) -> None:
    whole, parts = of(some + others), merged([of(some), of(others)])
    assert parts.buckets == whole.buckets
    assert (parts.count, parts.min_s, parts.max_s) == (whole.count, whole.min_s, whole.max_s)
    assert math.isclose(parts.sum_s, whole.sum_s)


@given(TIMES)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_at_a_time_is_the_same(values: list[float]) -> None:
    single = LatencyHistogram()
    for value in values:
        single.add_one(value)
    assert {abs(key) for key in single.buckets} == set(single.buckets)
    # Where a value lies on a bucket's edge, the last digit of its logarithm decides.
    assert math.isclose(single.percentile(50), of(values).percentile(50), rel_tol=0.003)
    assert single.count == len(values)


@given(TIMES, st.floats(0.1, 100))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_percentile_is_a_recorded_value_to_a_thousandth(values: list[float], percent: float) -> None:
    exact = sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]
    assert math.isclose(of(values).percentile(percent), exact, rel_tol=0.0021)


def test_nothing_recorded() -> None:
    empty = LatencyHistogram()
    empty.add([])
    assert (empty.percentile(99), empty.mean, empty.interval(99).high, empty.share_within(1)) == (0, 0, None, 0)


def test_below_zero_counts_as_zero_and_far_beyond_as_the_last_bucket() -> None:
    histogram = of([-1.0, 1e9])
    assert (histogram.min_s, histogram.max_s, histogram.count) == (0.0, 1e9, 2)
    assert histogram.percentile(100) == 1e9


def binomial(count: int, share: float, up_to: int) -> float:
    return sum(math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(up_to + 1))


@pytest.mark.parametrize("count", [1, 5, 20, 100, 300, 1000])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 0.999])
def test_the_ranks_enclose_the_quantile_with_95_percent(count: int, share: float) -> None:
    low, high = ranks(count, share)
    # The quantile is below the sample of rank r if fewer than r samples are below it.
    assert low == 0 or binomial(count, share, low - 1) <= 0.0251
    assert high == count + 1 or 1 - binomial(count, share, high - 1) <= 0.0251


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_large_numbers_use_the_normal_distribution(share: float) -> None:
    count = 1_000_000
    low, high = ranks(count, share)
    spread = math.sqrt(count * share * (1 - share))
    assert low == pytest.approx(count * share - 1.96 * spread, abs=3)
    assert high == pytest.approx(count * share + 1.96 * spread, abs=3)


def test_a_tail_with_few_samples_has_no_upper_bound() -> None:
    histogram = of([0.1] * 99 + [2.0])
    assert histogram.interval(99).high is None
    assert histogram.interval(50).high == pytest.approx(0.1, rel=0.002)


def test_share_within_a_limit() -> None:
    assert of([0.1, 0.2, 0.3, 0.4]).share_within(0.25) == 0.5
