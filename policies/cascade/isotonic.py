"""Isotonic regression by pool-adjacent-violators: from scores to probabilities that never fall as the score grows.

Neighbouring scores whose averages stand in the wrong order are pooled until none do, which is the least-squares fit
among all non-decreasing ones (Ayer et al., 1955; for calibration: Zadrozny and Elkan, 2002).
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby

Knots = tuple[tuple[float, float], ...]
"""(score, probability), both non-decreasing; a pool that spans several scores has a knot at either end."""


def fit_isotonic(scores: Sequence[float], right: Sequence[bool]) -> Knots:
    """The knots of the fit. Equal scores share one probability; scores are finite.

    Raises:
        ValueError: there is nothing to fit, or not one verdict a score.
    """
    if not scores or len(scores) != len(right):
        raise ValueError(f"a fit takes as many verdicts as scores, and at least one: {len(right)} for {len(scores)}")
    ordered = sorted(zip(scores, right, strict=True))
    pools: list[tuple[float, float, int, int]] = []  # lowest score, highest score, right, asked
    for score, group in groupby(ordered, key=lambda pair: pair[0]):
        verdicts = [verdict for _, verdict in group]
        low, high, hits, asked = score, score, sum(verdicts), len(verdicts)
        # Equal neighbours are pooled, too: the same fit in fewer knots.
        while pools and pools[-1][2] * asked >= hits * pools[-1][3]:
            low, _, earlier_hits, earlier_asked = pools.pop()
            hits, asked = hits + earlier_hits, asked + earlier_asked
        pools.append((low, high, hits, asked))
    knots: list[tuple[float, float]] = []
    for low, high, hits, asked in pools:
        knots.append((low, hits / asked))
        if high > low:
            knots.append((high, hits / asked))
    return tuple(knots)


def interpolate(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Piecewise linear, constant outside; `xs` rises, perhaps with equal neighbours."""
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
    """Between two knots a line, beyond the outer ones level."""
    return interpolate([knot[0] for knot in knots], [knot[1] for knot in knots], score)
