"""A heat map of times over time, as SVG: each column is a part of the run, each row a range of times."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loadtests.model.latency_histogram import LatencyHistogram, middle_of
from loadtests.report.axis import log_axis
from loadtests.report.plot import WIDTH
from loadtests.report.words import number, seconds

_ROWS = 26
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 8, 26
_HEIGHT = 250
_SHADES = 8
Counts = npt.NDArray[np.float64]


def heat_map(columns: Sequence[tuple[float, float, LatencyHistogram]]) -> str:
    """`columns`: begin and end in seconds, and the times in between. Darker is more, by the logarithm."""
    filled = [histogram for _, _, histogram in columns if histogram.count]
    if not filled:
        return '<p class="none">Nothing to show.</p>'
    axis = log_axis([each for one in filled for each in (one.percentile(0.5), one.max_s)], seconds)
    edges = np.geomspace(axis.low, axis.high, _ROWS + 1)
    counts = [_rows(histogram, edges) for _, _, histogram in columns]
    most = max(float(column.max()) for column in counts)
    first, last = columns[0][0], columns[-1][1]
    right, bottom = WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    wide, high = (right - _LEFT) / max(last - first, 1e-9), (bottom - _TOP) / _ROWS
    parts = [f'<svg viewBox="0 0 {WIDTH} {_HEIGHT}" role="img">']
    for (begin, end, _), column in zip(columns, counts, strict=True):
        x, width = _LEFT + (begin - first) * wide, (end - begin) * wide
        for row, count in enumerate(column):
            if count > 0:
                shade = math.ceil(_SHADES * math.log1p(count) / math.log1p(most))
                words = f"{begin:g} s: {number(count)} from {seconds(edges[row])} to {seconds(edges[row + 1])}"
                parts.append(
                    f'<rect class="h{min(shade, _SHADES)}" x="{x:.1f}" y="{bottom - (row + 1) * high:.1f}"'
                    f' width="{width + 0.3:.1f}" height="{high + 0.3:.1f}"><title>{words}</title></rect>'
                )
    for value in axis.ticks(6):
        y = bottom - axis.share(value) * (bottom - _TOP)
        parts.append(f'<path class="grid" d="M{_LEFT - 4} {y:.1f}H{_LEFT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{seconds(value)}</text>')
    for part in range(6):
        value = first + (last - first) * part / 5
        x = _LEFT + (value - first) * wide
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{value:.3g} s</text>')
    return "".join([*parts, "</svg>"])


def _rows(histogram: LatencyHistogram, edges: Counts) -> Counts:
    """How many values lie between each two edges."""
    counts = np.zeros(len(edges) - 1)
    if not histogram.buckets:
        return counts
    middles = np.array([middle_of(bucket) for bucket in histogram.buckets])
    places = np.clip(np.searchsorted(edges, middles) - 1, 0, len(counts) - 1)
    np.add.at(counts, places, np.fromiter(histogram.buckets.values(), float))
    return counts
