"""Plots as SVG: lines with gaps, bands, limits, and names for the pointer."""

import re

from loadtests.report.axis import PlotAxis
from loadtests.report.plot import PlotBand, PlotLine, line_plot

ACROSS, UP = PlotAxis(0, 10, lambda value: f"{value:g} s"), PlotAxis(0, 4, lambda value: f"{value:g}")


def test_a_gap_breaks_the_line() -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, None), (3.0, 1.0), (4.0, 4.0), (5.0, None), (6.0, 2.0)]
    svg = line_plot([PlotLine("a", points)], ACROSS, UP)
    assert svg.count("<polyline") == 2
    assert svg.count("<circle") == 1  # a point alone


def test_places_are_inside_the_frame() -> None:
    svg = line_plot([PlotLine("a", [(-5.0, 9.0), (50.0, -9.0)])], ACROSS, UP, width=300, height=100)
    pairs = re.search(r'points="([^"]*)"', svg)[1].split(" ")
    for pair in pairs:
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 300
        assert 0 <= y <= 100


def test_what_is_under_the_pointer_has_its_values() -> None:
    svg = line_plot([PlotLine("a", [(1.0, 2.0)]), PlotLine("b", [(1.0, 3.0), (2.0, None)])], ACROSS, UP)
    assert "<title>1 s: a 2, b 3</title>" in svg
    many = line_plot([PlotLine("a", [(n / 1000, 1.0) for n in range(10_000)])], ACROSS, UP)
    assert many.count('class="note"') <= 400


def test_bands_and_limits_are_named() -> None:
    bands = [PlotBand("<b>", 1.0, 1.0), PlotBand("warm-up", 0.0, 1.0, quiet=True)]
    svg = line_plot([PlotLine("", [(0.0, 1.0), (1.0, 1.0)])], ACROSS, UP, bands=bands, limit=("most", 3.0))
    assert "<title>&lt;b&gt;</title>" in svg
    assert 'class="quiet"' in svg
    assert ">most</text>" in svg
    assert "keys" not in svg  # one line without a name needs no key
    beyond = line_plot([PlotLine("", [(0.0, 1.0)])], ACROSS, UP, limit=("most", 30.0))
    assert "most" not in beyond


def test_nothing_is_said() -> None:
    assert "Nothing to show" in line_plot([PlotLine("a", [(0.0, None)])], ACROSS, UP)
