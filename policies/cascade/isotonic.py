"""Isotonic regression by pool-adjacent-violators: maps scores to probabilities that do not decrease with the score.

Adjacent scores whose means are in the wrong order are pooled until none are, which gives the least-squares fit among
all non-decreasing functions (Ayer et al., 1955; for calibration: Zadrozny and Elkan, 2002).
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby

Knots = tuple[tuple[float, float], ...]
"""(score, probability), both non-decreasing. A pool of several scores has one knot at its lowest and highest score."""


def fit_isotonic(scores: Sequence[float], right: Sequence[bool]) -> Knots:
    """The knots of the fit. Equal scores get one probability; scores must be finite.

    Raises:
        ValueError: the sequences are empty or differ in length.
    """
    if not scores or len(scores) != len(right):
        raise ValueError(f"a fit takes as many verdicts as scores, and at least one: {len(right)} for {len(scores)}")
    ordered = sorted(zip(scores, right, strict=True))
    pools: list[tuple[float, float, int, int]] = []  # lowest score, highest score, right answers, all answers
    for score, group in groupby(ordered, key=lambda pair: pair[0]):
        verdicts = [verdict for _, verdict in group]
        low, high, hits, count = score, score, sum(verdicts), len(verdicts)
        # Neighbours with equal means are pooled as well: the same fit with fewer knots.
        while pools and pools[-1][2] * count >= hits * pools[-1][3]:
            low, _, earlier_hits, earlier_count = pools.pop()
            hits, count = hits + earlier_hits, count + earlier_count
        pools.append((low, high, hits, count))
    knots: list[tuple[float, float]] = []
    for low, high, hits, count in pools:
        knots.append((low, hits / count))
        if high > low:
            knots.append((high, hits / count))
    return tuple(knots)


def interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear interpolation, constant outside; `xs` is non-decreasing."""
    if x <= xs[0]:
        return ys[0]
    if x >= xs[-1]:
        return ys[-1]
    right = bisect_left(xs, x)
    x0, x1, y0, y1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
    if y0 == y1 or x1 == x0:
        return y1
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def probability_at(knots: Knots, score: float) -> float:
    """The probability for a score: linear between knots, constant outside."""
    return interpolate([knot[0] for knot in knots], [knot[1] for knot in knots], score)
