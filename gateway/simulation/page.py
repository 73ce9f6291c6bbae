"""A comparison of simulated policies as one self-contained HTML page: a table and plots, in light and dark."""

from collections.abc import Callable, Iterator, Sequence

from gateway.simulation.report import Comparison, SimulationReport
from gateway.simulation.table import circumstances, rows_of
from gateway.simulation.world import Sample
from loadtests.report.axis import PlotAxis, even_axis, log_axis
from loadtests.report.document import document, section, table
from loadtests.report.plot import WIDTH, PlotLine, Point, key, line_plot
from loadtests.report.words import number, percent, plain, seconds

_SHARES = PlotAxis(0.0, 1.02, percent)
_SAMPLES: tuple[tuple[str, Callable[[Sample], float], PlotAxis | None], ...] = (
    ("KV blocks in use", lambda sample: sample.kv_usage, _SHARES),
    ("requests waiting in the queue", lambda sample: float(sample.queued), None),
    ("sequences in the engine", lambda sample: float(sample.running), None),
)
_BAR = 16


def page(comparison: Comparison) -> str:
    """The HTML document."""
    reports = comparison.reports
    parts = [
        f"<h1>{plain(' against '.join(report.policy for report in reports))}</h1>",
        f"<p>{plain(circumstances(comparison))}.</p>",
        key(_lines(reports, [()] * len(reports))),
        section("Figures", "", table(_rows(reports))),
    ]
    if comparison.notes:
        notes = "".join(f"<li>{plain(note)}</li>" for note in comparison.notes)
        parts.append(section("Assumed", "", f"<ul>{notes}</ul>"))
    curves = _lines(reports, [report.ttft_curve for report in reports])
    across = log_axis([x for line in curves for x, _ in line.points], seconds)
    parts += [
        section(
            "Time to the first token",
            "Share of the answers whose first token came within this time.",
            line_plot(curves, across, _SHARES, height=260),
        ),
        section("Answers by rung", "Share of the answers from each rung.", _bars(reports)),
        *_engines(reports),
    ]
    return document(f"Simulation of {comparison.trace}", parts)


def _rows(reports: Sequence[SimulationReport]) -> list[tuple[str, ...]]:
    differ = len(reports) == 2
    titles = [report.policy for report in reports]
    rows = [("", *titles, *(["difference"] if differ else []))]
    return rows + [(row.name, *row.cells, *([row.difference] if differ else [])) for row in rows_of(reports)]


def _lines(reports: Sequence[SimulationReport], points: Sequence[Sequence[Point]]) -> list[PlotLine]:
    """One for each policy."""
    names = [f"{report.policy} ({report.digest})" for report in reports]
    return [PlotLine(name, each, place) for place, (name, each) in enumerate(zip(names, points, strict=True))]


def _engines(reports: Sequence[SimulationReport]) -> Iterator[str]:
    for name in dict.fromkeys(name for report in reports for name in report.timeline):
        for what, value, axis in _SAMPLES:
            drawn = [[(each.at, value(each)) for each in report.timeline.get(name, ())] for report in reports]
            points = [point for line in drawn for point in line]
            across = even_axis([x for x, _ in points], seconds)
            up = axis or even_axis([y for _, y in points], number, least=1.0)
            plot = line_plot(_lines(reports, drawn), across, up)
            yield section(f"{name}: {what}", "Over the time of the trace.", plot)


def _bars(reports: Sequence[SimulationReport]) -> str:
    rungs = sorted({rung for report in reports for rung in report.rungs})
    band = _BAR * len(reports) + 14
    parts = [f'<svg viewBox="0 0 {WIDTH} {band * len(rungs) + 8}" role="img">']
    for row, rung in enumerate(rungs):
        top = 8 + row * band
        parts.append(f'<text x="96" y="{top + _BAR // 2 * len(reports) + 4}" text-anchor="end">{plain(rung)}</text>')
        for place, report in enumerate(reports):
            share = report.rungs.get(rung, 0.0)
            width = max(share * (WIDTH - 190), 1)
            y = top + _BAR * place
            parts.append(f'<rect class="f{place}" x="106" y="{y}" width="{width:.1f}" height="13" rx="2"/>')
            parts.append(f'<text x="{112 + width:.1f}" y="{y + 11}">{percent(share)}</text>')
    return "".join([*parts, "</svg>"])
