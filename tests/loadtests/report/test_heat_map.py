"""The heat map: each value in its column and row."""

from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.report.heat_map import heat_map


def of(*values: float) -> LatencyHistogram:
    histogram = LatencyHistogram()
    histogram.add(values)
    return histogram


def test_each_value_is_in_one_cell() -> None:
    drawn = heat_map([(0.0, 1.0, of(*[0.02] * 50)), (1.0, 2.0, of()), (2.0, 3.0, of(0.02, 2.0))])
    assert drawn.count("<rect") == 3
    assert "<title>0 s: 50 from " in drawn
    assert drawn.count("<title>2 s: 1 from ") == 2
    assert 'class="h8"' in drawn  # the most is the darkest


def test_gaps_inside_one_read_are_at_the_low_end() -> None:
    drawn = heat_map([(0.0, 1.0, of(0.0, 0.0, 0.02))])
    assert "<title>0 s: 2 from 10 ms to " in drawn


def test_nothing_is_said() -> None:
    assert "Nothing to show" in heat_map([(0.0, 1.0, of())])
