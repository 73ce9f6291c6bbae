"""A comparison of simulated policies as one self-contained HTML page: a table and plots, in light and dark."""

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10

from gateway.simulation.report import Comparison, SimulationReport
from gateway.simulation.table import circumstances, rows_of

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 14, 40
_Point = tuple[float, float]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #fff;
  --a: #4477aa; --b: #cc6611; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #30363d; --paper: #14181d;
  --a: #7fb2e5; --b: #f0a050; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .4rem; }
p, li { color: var(--soft); } ul { padding-left: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; } svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .s0 { stroke: var(--a); } .s1 { stroke: var(--b); }
.f0 { fill: var(--a); } .f1 { fill: var(--b); } polyline { fill: none; stroke-width: 1.8; }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; border-radius: 2px; }
"""


def page(comparison: Comparison) -> str:
    """The HTML document."""
    reports = comparison.reports
    keys = "".join(
        f'<span class="key" style="background: var(--{"ab"[number]})"></span>{escape(report.policy)} '
        f"<small>({escape(report.digest)})</small>"
        for number, report in enumerate(reports)
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Simulation of {escape(comparison.trace)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(' against '.join(report.policy for report in reports))}</h1>",
        f"<p>{escape(circumstances(comparison))}.</p>",
        f"<p>{keys}</p>",
        f"<h2>Figures</h2><div class=wide>{_table(reports)}</div>",
        f"<h2>Assumed</h2><ul>{notes}</ul>" if notes else "",
        _figure(
            "Time to the first token",
            "Share of the answers whose first token came within this time (logarithmic scale).",
            _plot(
                [report.ttft_curve for report in reports], across=_seconds, up=_percent, highest=1.0, logarithmic=True
            ),
        ),
        _figure("Answers by rung", "Share of the answers from each rung.", _bars(reports)),
    ]
    for name in dict.fromkeys(name for report in reports for name in report.timeline):
        samples = [report.timeline.get(name, ()) for report in reports]
        usage = _plot([[(s.at, s.kv_usage) for s in line] for line in samples], _seconds, _percent, highest=1.0)
        queued = _plot([[(s.at, float(s.queued)) for s in line] for line in samples], _seconds, _number)
        running = _plot([[(s.at, float(s.running)) for s in line] for line in samples], _seconds, _number)
        plots = {"KV blocks in use": usage, "requests waiting in the queue": queued, "sequences in the engine": running}
        parts += [_figure(f"{name}: {what}", "Over the time of the trace.", plot) for what, plot in plots.items()]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _figure(title: str, caption: str, drawing: str) -> str:
    return f"<figure><h2>{escape(title)}</h2>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(reports: Sequence[SimulationReport]) -> str:
    differ = len(reports) == 2
    titles = [*[report.policy for report in reports], *(["difference"] if differ else [])]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    rows = []
    for row in rows_of(reports):
        texts = [*row.cells, *([row.difference] if differ else [])]
        cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
        rows.append(f"<tr><td>{escape(row.name)}</td>{cells}</tr>")
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _plot(
    lines: Sequence[Sequence[_Point]],
    across: Callable[[float], str],
    up: Callable[[float], str],
    *,
    highest: float | None = None,
    logarithmic: bool = False,
) -> str:
    points = [point for line in lines for point in line]
    if not points:
        return "<p>Nothing to show.</p>"
    least = max(1e-4, min(x for x, _ in points)) if logarithmic else 0.0
    last = max(least * 1.01, 1e-4, *[x for x, _ in points])
    top = highest or max(1.0, *[y for _, y in points])
    right, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> str:
        share = log10(max(x, least) / least) / log10(last / least) if logarithmic else x / last
        return f"{_LEFT + share * right:.1f},{_TOP + (1 - y / top) * down:.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for step in range(5):
        y = _TOP + (1 - step / 4) * down
        parts += [
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{up(top * step / 4)}</text>',
        ]
    for x in _ticks(least, last, logarithmic=logarithmic):
        at = place(x, 0).split(",", 1)[0]
        parts += [
            f'<path class="grid" d="M{at} {_TOP}V{_TOP + down}"/>',
            f'<text x="{at}" y="{_TOP + down + 20}" text-anchor="middle">{across(x)}</text>',
        ]
    for number, line in enumerate(lines):
        path = " ".join(place(*point) for point in line)
        parts.append(f'<polyline class="s{number}" points="{path}"/>')
    return "".join([*parts, "</svg>"])


def _bars(reports: Sequence[SimulationReport]) -> str:
    rungs = sorted({rung for report in reports for rung in report.rungs})
    band = 16 * len(reports) + 14
    height = band * len(rungs) + 8
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">']
    for row, rung in enumerate(rungs):
        top = 8 + row * band
        parts.append(f'<text x="96" y="{top + 8 * len(reports) + 4}" text-anchor="end">{escape(rung)}</text>')
        for number, report in enumerate(reports):
            share = report.rungs.get(rung, 0.0)
            width = max(share * (_WIDTH - 190), 1)
            y = top + 16 * number
            parts += [
                f'<rect class="f{number}" x="106" y="{y}" width="{width:.1f}" height="13" rx="2"/>',
                f'<text x="{112 + width:.1f}" y="{y + 11}">{_percent(share)}</text>',
            ]
    return "".join([*parts, "</svg>"])


def _ticks(least: float, last: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        first = floor(log10(least))
        decades = [10.0**power for power in range(first, floor(log10(last)) + 2)]
        return [decade * step for decade in decades for step in (1, 2, 5) if least <= decade * step <= last]
    unit = 10.0 ** floor(log10(last))
    step = next(unit * part for part in (0.1, 0.2, 0.5, 1, 2) if last / (unit * part) <= 8)
    return [step * count for count in range(int(last / step) + 1)]


def _seconds(value: float) -> str:
    return f"{1000 * value:g} ms" if 0 < value < 1 else f"{value:g} s"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _number(value: float) -> str:
    return f"{value:.4g}"
