"""The plot is well-formed, holds what it was given, and escapes names."""

from xml.etree import ElementTree as ET

import pytest

from gateway.evaluation.plots import line_plot


def test_a_plot() -> None:
    text = line_plot(
        "a < b", "x & y", "up", {"one": [(0, 0.2), (1, 0.9)], "two": [(0, 0.5), (1, 0.5)]}, [("<m>", 0.5, 0.6)]
    )
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    lines = root.findall(f"{space}polyline")
    assert len(lines) == 2
    (left, low), (right, high) = ([float(n) for n in point.split(",")] for point in lines[0].attrib["points"].split())
    assert left < right
    assert low > high, "up is a smaller y"
    said = {element.text for element in root.iter(f"{space}text")}
    assert {"a < b", "x & y", "up", "one", "two", "<m>"} <= said
    assert len(root.findall(f"{space}circle")) == 1
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "self-contained"


def test_nothing_to_plot() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        line_plot("t", "x", "y", {})
