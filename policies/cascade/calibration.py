"""Reads thresholds from a calibration: for a target share of the large model, or a target accuracy.

Scores are mapped to probabilities by isotonic regression (pool-adjacent-violators): adjacent scores whose means are in
the wrong order are pooled until none are, which gives the least-squares fit among all non-decreasing functions (Ayer
et al., 1955; for calibration: Zadrozny and Elkan, 2002).
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby

from config.model.calibration import Calibration
from config.model.routing import Defer, Target

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


def threshold_for_share(calibration: Calibration, share: float) -> float:
    """The threshold at which this share of the requests goes to the large model, interpolated linearly between rows.

    A share of 0 is -inf and a share of 1 is inf: a new statistic may lie outside the range of the calibration.
    """
    if share <= 0:
        return -math.inf
    if share >= 1:
        return math.inf
    rows = calibration.rows
    return interpolate([row.large_share for row in rows], [row.threshold for row in rows], share)


def share_for_threshold(calibration: Calibration, threshold: float) -> float:
    """The share of requests that goes to the large model at this threshold: the inverse of `threshold_for_share`."""
    rows = calibration.rows
    return interpolate([row.threshold for row in rows], [row.large_share for row in rows], threshold)


def threshold_for_accuracy(calibration: Calibration, fraction_of_large: float) -> float:
    """The smallest threshold from which on the cascade has this fraction of the large model's accuracy.

    Choosing the best row of a sample overestimates its accuracy (selection bias), so each row counts with its measured
    accuracy minus one standard error.
    """
    goal = fraction_of_large * calibration.large_accuracy
    rows = calibration.rows
    index = len(rows) - 1
    while index > 0 and rows[index - 1].accuracy - rows[index - 1].lag_error >= goal:
        index -= 1
    return rows[index].threshold


def probability_right(calibration: Calibration, statistic: float) -> float:
    """The probability that a small model's answer with this statistic is right."""
    return probability_at(calibration.isotonic, statistic)


def threshold_of(defer: Defer, target: Target | None) -> float:
    """The initial threshold of a cascade; with a budget as the target, the one for a share of 0.5.

    Raises ValueError without a threshold and without a target.
    """
    if defer.threshold is not None:
        return defer.threshold
    calibration = defer.artefact
    if calibration is None or target is None:
        raise ValueError("config.check lets a threshold, or a calibration with a target, through")
    if target.large_share is not None:
        return threshold_for_share(calibration, target.large_share)
    if target.accuracy_of_large is not None:
        return threshold_for_accuracy(calibration, target.accuracy_of_large)
    return threshold_for_share(calibration, 0.5)
