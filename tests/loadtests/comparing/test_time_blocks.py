"""Blocks of time, and percentiles of what is drawn of them."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.comparing.comparison import compare_runs
from loadtests.comparing.time_blocks import Drawn, TimeBlocks, TimedValues, draw_blocks
from tests.loadtests.synthetic_runs import SCENARIO, SyntheticRequest, even_run, synthetic_record


def once(blocks: int) -> Drawn:
    return Drawn(np.ones((1, blocks)))


@given(st.lists(st.floats(0.001, 10), min_size=30, max_size=300), st.sampled_from([50.0, 90.0, 99.0]))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_all_blocks_once_give_the_value_of_all(values: list[float], percent: float) -> None:
    ordered = np.sort(np.array(values))
    timed = TimedValues(ordered, np.arange(len(values)) % 7, np.ones(len(values)))
    assert timed.percentiles(once(7), percent)[0] == pytest.approx(timed.percentile(percent))
    assert timed.means(once(7))[0] == pytest.approx(timed.mean())
    below, above = np.percentile(ordered, percent, method="lower"), np.percentile(ordered, percent, method="higher")
    # Between the values of the neighbouring ranks.
    rank = int(np.searchsorted(ordered, below))
    assert ordered[max(rank - 1, 0)] <= timed.percentile(percent) <= above


def test_a_block_that_is_not_drawn_counts_for_nothing() -> None:
    timed = TimedValues(np.array([1.0, 2.0, 50.0]), np.array([0, 0, 1]), np.ones(3))
    drawn = Drawn(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert timed.percentiles(drawn, 99)[0] <= 2.0
    assert timed.means(drawn).tolist() == [1.5, 50.0]


def test_requests_and_counts_have_the_blocks_of_their_times() -> None:
    record = synthetic_record([SyntheticRequest(at=at) for at in (1.0, 3.5, 10.2, 29.9)])
    blocks = TimeBlocks([record, record])
    assert blocks.by_run == [5, 5]
    assert blocks.seconds.sum() == pytest.approx(2 * 27.0)
    # The warm-up is left out.
    assert blocks.of_requests(lambda row: row.tpot_s).blocks.tolist() == [0, 1, 4, 5, 6, 9]
    assert blocks.of_counts(lambda measures: measures.requests).sum() == 6
    assert blocks.of_gaps().count == 4 * 9  # those of the last request came after the run


@pytest.mark.parametrize(("warm_up", "duration"), [(0.0, 30), (2.5, 30), (2.999, 31.7), (3.0, 95), (0.4, 5.3)])
def test_blocks_are_whole_windows_that_were_measured(warm_up: float, duration: float) -> None:
    """Ten requests a second: each block has as many as its seconds say, by counts and by rows."""
    scenario = msgspec.structs.replace(SCENARIO, duration=duration, warm_up=warm_up)
    requests = [SyntheticRequest(at=n / 10 + 0.01) for n in range(int(duration * 10))]
    blocks = TimeBlocks([synthetic_record(requests, scenario)])
    assert all(each % 1 == 0 for each in blocks.seconds)
    assert blocks.seconds.sum() == max(math.floor(duration) - math.ceil(warm_up), 0)
    assert (blocks.of_counts(lambda measures: measures.requests) == 10 * blocks.seconds).all()
    by_block = np.bincount(blocks.of_requests(lambda row: row.end_s).blocks, minlength=blocks.count)
    assert (by_block == 10 * blocks.seconds).all()
    assert blocks.seconds.max() - blocks.seconds.min() <= 1


@pytest.mark.parametrize(("warm_up", "duration"), [(0.4, 1.2), (0.05, 0.5), (0.0, 0.9)])
def test_a_run_without_a_whole_window_is_one_block(warm_up: float, duration: float) -> None:
    scenario = msgspec.structs.replace(SCENARIO, duration=duration, warm_up=warm_up)
    record = synthetic_record([SyntheticRequest(at=n / 100) for n in range(int(duration * 100))], scenario)
    blocks = TimeBlocks([record])
    assert (blocks.count, blocks.of_requests(lambda row: row.end_s).count) == (1, record.totals.ok)
    assert compare_runs([record], [record]).measures[0].verdict == "unknown"


def test_sides_are_drawn_together_only_if_that_is_asked() -> None:
    blocks = TimeBlocks([even_run()])
    left, right = draw_blocks([blocks, blocks], 5, 1, together=True)
    assert (left.times == right.times).all()
    left, right = draw_blocks([blocks, blocks], 5, 1, together=False)
    assert (left.times != right.times).any()
    assert (left.times.sum(axis=1) == blocks.count).all()
