"""A plot of lines over shaded bands, as SVG. What the pointer rests on is named, by elements that need no script."""

from collections.abc import Sequence

import msgspec

from loadtests.report.axis import PlotAxis
from loadtests.report.words import plain

WIDTH = 1080
"""About that of a page on a wide screen, so that letters keep their size."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 34
_LABEL = 16
_MOST_NOTES = 400
Point = tuple[float, float | None]
"""None: there is nothing here, and the line is broken."""


class PlotLine(msgspec.Struct, frozen=True):
    """One line."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    """Of the page's style, from 0 to 5."""
    dashed: bool = False
    dots: bool = False


class PlotBand(msgspec.Struct, frozen=True):
    """A part of the horizontal axis that is shaded, such as a fault."""

    name: str
    begin: float
    end: float
    quiet: bool = False
    """Nothing went wrong in it."""


def line_plot(
    lines: Sequence[PlotLine],
    across: PlotAxis,
    up: PlotAxis,
    *,
    bands: Sequence[PlotBand] = (),
    limit: tuple[str, float] | None = None,
    height: int = 200,
    width: int = WIDTH,
) -> str:
    """The plot with its key. `limit`: a name and a height, drawn across."""
    shown = [line for line in lines if any(y is not None for _, y in line.points)]
    if not shown:
        return '<p class="none">Nothing to show.</p>'
    frame = _Frame(across, up, width, height)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img">', *_grid(frame)]
    parts += [_band(frame, band) for band in bands]
    if limit is not None and up.low <= limit[1] <= up.high:
        y = frame.y(limit[1])
        parts.append(f'<path class="limit" d="M{_LEFT} {y}H{frame.right}"/>')
        parts.append(f'<text class="mark" x="{frame.right - 4}" y="{y - 4}" text-anchor="end">{plain(limit[0])}</text>')
    parts += [_line(frame, line) for line in shown]
    parts += _notes(frame, shown)
    return f"{key(shown)}{''.join(parts)}</svg>"


def key(lines: Sequence[PlotLine]) -> str:
    """Which colour is what."""
    if len(lines) == 1 and not lines[0].name:
        return ""
    words = [
        f'<span class="key"><i class="k{line.colour}{" dashed" if line.dashed else ""}"></i>{plain(line.name)}</span>'
        for line in lines
    ]
    return f'<div class="keys">{"".join(words)}</div>'


class _Frame:
    """From values to places on the drawing."""

    def __init__(self, across: PlotAxis, up: PlotAxis, width: int, height: int) -> None:
        self.across = across
        self.up = up
        self.right = width - _RIGHT
        self.bottom = height - _BOTTOM - (_LABEL if across.label else 0)
        self.height = height

    def x(self, value: float) -> float:
        return round(_LEFT + self.across.share(value) * (self.right - _LEFT), 1)

    def y(self, value: float) -> float:
        return round(self.bottom - self.up.share(value) * (self.bottom - _TOP), 1)


def _grid(frame: _Frame) -> list[str]:
    parts = []
    for value in frame.up.ticks(5):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{frame.right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{frame.up.words(value)}</text>')
    for value in frame.across.ticks(8):
        x = frame.x(value)
        parts.append(f'<path class="grid" d="M{x} {_TOP}V{frame.bottom}"/>')
        parts.append(f'<text x="{x}" y="{frame.bottom + 17}" text-anchor="middle">{frame.across.words(value)}</text>')
    if frame.across.label:
        middle = (_LEFT + frame.right) / 2
        label = plain(frame.across.label)
        parts.append(f'<text x="{middle}" y="{frame.height - 4}" text-anchor="middle">{label}</text>')
    return parts


def _band(frame: _Frame, band: PlotBand) -> str:
    begin, end = frame.x(band.begin), frame.x(band.end)
    return (
        f'<rect class="{"quiet" if band.quiet else "band"}" x="{begin}" y="{_TOP}" width="{max(end - begin, 1.5):.1f}"'
        f' height="{frame.bottom - _TOP}"><title>{plain(band.name)}</title></rect>'
    )


def _line(frame: _Frame, line: PlotLine) -> str:
    parts, run = [], []
    style = f'class="line l{line.colour}{" dashed" if line.dashed else ""}"'
    for x, y in (*line.points, (0.0, None)):
        if y is not None:
            run.append(f"{frame.x(x)},{frame.y(y)}")
            if line.dots:
                parts.append(f'<circle class="f{line.colour}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3.5"/>')
            continue
        if len(run) == 1:
            at_x, _, at_y = run[0].partition(",")
            parts.append(f'<circle class="f{line.colour}" cx="{at_x}" cy="{at_y}" r="2"/>')
        elif run:
            parts.append(f'<polyline {style} points="{" ".join(run)}"/>')
        run = []
    return "".join(parts)


def _notes(frame: _Frame, lines: Sequence[PlotLine]) -> list[str]:
    """For each place across, what the lines say there."""
    found: dict[float, list[str]] = {}
    for line in lines:
        for x, y in line.points:
            if y is not None:
                found.setdefault(x, []).append(f"{line.name or 'value'} {frame.up.words(y)}")
    places = sorted(found)
    if len(places) > _MOST_NOTES:
        places = places[:: -(-len(places) // _MOST_NOTES)]
    parts = []
    for index, value in enumerate(places):
        before = frame.x(places[index - 1]) if index else float(_LEFT)
        after = frame.x(places[index + 1]) if index + 1 < len(places) else float(frame.right)
        here = frame.x(value)
        begin, end = (before + here) / 2, (here + after) / 2
        words = plain(f"{frame.across.words(value)}: {', '.join(found[value])}")
        parts.append(
            f'<rect class="note" x="{begin:.1f}" y="{_TOP}" width="{max(end - begin, 0.5):.1f}"'
            f' height="{frame.bottom - _TOP}"><title>{words}</title></rect>'
        )
    return parts
