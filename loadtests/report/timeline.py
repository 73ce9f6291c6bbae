"""What happened when: the windows of a run as plots, with its faults as bands."""

from collections.abc import Callable, Sequence

import msgspec

from loadtests.model.latency_histogram import LatencyHistogram, merged
from loadtests.model.run_record import RunRecord, RunWindow
from loadtests.report.axis import PlotAxis, even_axis, log_axis
from loadtests.report.document import figure
from loadtests.report.heat_map import heat_map
from loadtests.report.plot import PlotBand, PlotLine, Point, line_plot
from loadtests.report.words import number, seconds

_MOST_COLUMNS = 180
_REQUESTS_IN_PART = 8
_TIMES = (("TTFT p50", 50.0, 0), ("p90", 90.0, 4), ("p99", 99.0, 1))


class TimeSpan(msgspec.Struct, frozen=True):
    """Neighbouring windows as one."""

    begin_s: float
    end_s: float
    windows: Sequence[RunWindow]

    @property
    def middle_s(self) -> float:
        return (self.begin_s + self.end_s) / 2

    def rate(self, count: Callable[[RunWindow], float]) -> float:
        """Of something counted, a second."""
        return sum(map(count, self.windows)) / (self.end_s - self.begin_s)

    def times(self, name: str) -> LatencyHistogram:
        return merged([getattr(window.measures.latencies, name) for window in self.windows])


def spans_of(record: RunRecord, most: int = _MOST_COLUMNS) -> list[TimeSpan]:
    """The whole run, windows without events included, in at most so many equal parts."""
    width = record.header.window_s
    by_place = {round(window.begins_s / width): window for window in record.windows}
    if not by_place:
        return []
    count = max(by_place) + 1
    step = -(-count // most)
    found = []
    for place in range(0, count, step):
        windows = [by_place[each] for each in range(place, min(place + step, count)) if each in by_place]
        found.append(TimeSpan(place * width, (place + step) * width, windows))
    return found


def timeline(record: RunRecord, bands: Sequence[PlotBand] = ()) -> list[str]:
    """Figures, one below the other, with the same horizontal axis."""
    spans = spans_of(record)
    if not spans:
        return ['<p class="none">No request was sent.</p>']
    across = PlotAxis(0.0, spans[-1].end_s, lambda value: f"{value:g} s")
    warm_up = [PlotBand("warm-up", 0.0, record.header.warm_up_s, quiet=True)] if record.header.warm_up_s else []

    def rates(lines: Sequence[tuple[str, int, Callable[[RunWindow], float]]], words: Callable[[float], str]) -> str:
        drawn = [PlotLine(name, [(span.middle_s, span.rate(count)) for span in spans], n) for name, n, count in lines]
        drawn = [line for line in drawn if line.name == lines[0][0] or any(y for _, y in line.points)]
        up = even_axis([y or 0.0 for line in drawn for _, y in line.points], words)
        return line_plot(drawn, across, up, bands=[*warm_up, *bands], height=170)

    requests = rates(
        (
            ("meant to be sent", 5, lambda window: window.measures.requests),
            ("good", 2, lambda window: window.measures.good),
            ("shed", 4, lambda window: window.measures.shed),
            ("failed", 1, lambda window: window.measures.failed),
        ),
        lambda value: f"{number(value)}/s",
    )
    tokens = rates((("", 0, lambda window: window.tokens),), number)
    in_flight: list[Point] = [(span.middle_s, max((w.in_flight for w in span.windows), default=0)) for span in spans]
    flight = even_axis([y or 0.0 for _, y in in_flight], number)
    figures = [
        figure("Requests a second, by the time at which they were meant to be sent", requests),
        figure("Time to the first token, from the intended time", _percentiles(record, across, [*warm_up, *bands])),
        figure("Events with content a second", tokens),
        figure(
            "In flight", line_plot([PlotLine("", in_flight, 3)], across, flight, bands=[*warm_up, *bands], height=120)
        ),
    ]
    gaps = [(span.begin_s, span.end_s, span.times("itl")) for span in spans]
    return [*figures, figure("Inter-token latency: every gap, by the second of its arrival", heat_map(gaps))]


def lag_timeline(record: RunRecord) -> str:
    """The load tester's own lag."""
    spans = spans_of(record)
    points = [(span.middle_s, max((window.lag_p99_s for window in span.windows), default=0.0)) for span in spans]
    if not any(y for _, y in points):
        return ""
    across = PlotAxis(0.0, spans[-1].end_s, lambda value: f"{value:g} s")
    up = even_axis([y for _, y in points], seconds, least=float(record.header.scenario.lag.p99))
    limit = ("bound", float(record.header.scenario.lag.p99))
    return line_plot([PlotLine("", points, 5)], across, up, limit=limit, height=120)


def _percentiles(record: RunRecord, across: PlotAxis, bands: Sequence[PlotBand]) -> str:
    # With fewer requests in a part its percentiles are single requests.
    spans = spans_of(record, min(max(record.totals.requests // _REQUESTS_IN_PART, 12), _MOST_COLUMNS))
    times = [(span.middle_s, span.times("ttft")) for span in spans]
    lines = [
        PlotLine(name, [(at, histogram.percentile(each) if histogram.count else None) for at, histogram in times], n)
        for name, each, n in _TIMES
    ]
    values = [y for line in lines for _, y in line.points if y]
    return line_plot(lines, across, log_axis(values, seconds), bands=bands)
