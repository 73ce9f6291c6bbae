"""Axes of plots: where a value lies between 0 and 1, and which values get a label."""

import math
from collections.abc import Callable

import msgspec

_SHORTEST_S = 1e-4


class PlotAxis(msgspec.Struct, frozen=True):
    """From `low` to `high`, evenly, by the logarithm, or as percentiles (each further nine takes the same room)."""

    low: float
    high: float
    words: Callable[[float], str]
    """What a label says of a value."""
    scale: str = "even"
    """"even", "log" or "percentile"."""
    label: str = ""

    def share(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values beyond are at the ends."""
        begin, end, here = self._bent(self.low), self._bent(self.high), self._bent(value)
        return min(max((here - begin) / (end - begin), 0.0), 1.0) if end > begin else 0.0

    def ticks(self, most: int = 6) -> list[float]:
        """Round values."""
        if self.scale == "percentile":
            wanted = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)
            return [each for each in wanted if self.low <= each <= self.high]
        if self.scale == "log":
            return self._decades(most)
        step = _round_step(self.high - self.low, most)
        first = math.ceil(self.low / step - 1e-9)
        return [step * count for count in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _bent(self, value: float) -> float:
        match self.scale:
            case "log":
                return math.log(max(value, 1e-12))
            case "percentile":
                return -math.log10(max(1.0 - value / 100, 1e-9))
            case _:
                return value

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
            found = [10.0**power * step for power in range(first, last + 1) for step in steps]
            inside = [each for each in found if self.low * 0.999 <= each <= self.high * 1.001]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]


def log_axis(values: list[float], words: Callable[[float], str], label: str = "") -> PlotAxis:
    """Around all values; those below a tenth of a millisecond, such as gaps inside one read, are at its low end."""
    inside = [value for value in values if value >= _SHORTEST_S] or [_SHORTEST_S]
    low, high = min(inside) / 1.1, max(inside) * 1.1
    if high / low < 4:  # so narrow a range would show noise
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    return PlotAxis(low, high, words, "log", label)


def even_axis(values: list[float], words: Callable[[float], str], label: str = "", least: float = 0.0) -> PlotAxis:
    """From zero to a little above the greatest value, or above `least`."""
    return PlotAxis(0.0, max([*values, least, 1e-9]) * 1.06, words, label=label)


def _round_step(width: float, most: int) -> float:
    unit = 10.0 ** math.floor(math.log10(max(width, 1e-12)))
    return next(unit * part for part in (0.1, 0.2, 0.5, 1, 2, 5) if width / (unit * part) <= most)
