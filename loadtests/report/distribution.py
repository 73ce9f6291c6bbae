"""A distribution of times by percentile: the tail takes as much room as the middle."""

import math
from collections.abc import Sequence

from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.report.axis import PlotAxis, log_axis
from loadtests.report.plot import PlotLine, Point, line_plot
from loadtests.report.words import percentile, seconds

_STEPS = 120
_LAST = 99.999


def distribution(lines: Sequence[tuple[str, int, LatencyHistogram]], *, width: int = 460) -> str:
    """Times with name and colour; a percentile is drawn as long as a value lies beyond it."""
    shown = [(name, colour, histogram) for name, colour, histogram in lines if histogram.count]
    if not shown:
        return '<p class="none">Nothing to show.</p>'
    most = max(histogram.count for _, _, histogram in shown)
    across = PlotAxis(0.0, _reach(most), percentile, "percentile")
    drawn = [
        PlotLine(name, _points(histogram), colour, dashed=place > 0)
        for place, (name, colour, histogram) in enumerate(shown)
    ]
    up = log_axis([y for line in drawn for _, y in line.points if y], seconds)
    return line_plot(drawn, across, up, height=210, width=width)


def _points(histogram: LatencyHistogram) -> list[Point]:
    end = _reach(histogram.count)
    nines = _nines(end)
    steps = [100 * (1 - 10 ** (-nines * step / _STEPS)) for step in range(_STEPS + 1)]
    return [(step, histogram.percentile(step)) for step in steps]


def _reach(count: int) -> float:
    return min(100 * (1 - 1 / max(count, 2)), _LAST)


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)
