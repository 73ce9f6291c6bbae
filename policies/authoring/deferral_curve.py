"""Evaluates how well a statistic selects the questions to send to the large model: curves and metrics with intervals.

A curve is the cascade's accuracy as a function of the share of questions, those with the lowest scores, that goes to
the large model; for equal scores, the expectation over their orders. Metrics (Ong et al., RouteLLM, 2024, section 3.2):

- PGR, the part of the large model's lead in accuracy that a share recovers; APGR, its mean over all shares (by chance
  0.5);
- CPT(x), the smallest share that recovers x % of the lead;
- the oracle first sends the questions that only the large model answers correctly, and last those that only the small
  one does. Normalised APGR, (APGR - 0.5) / (oracle's APGR - 0.5), is 0 for chance and 1 for the oracle.

Intervals are the middle 95 % of bootstrap resamples of the questions (Efron, 1979); all curves use the same resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 101)


class Interval(msgspec.Struct, frozen=True):
    """A value and the middle 95 % of its resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


class Curve(msgspec.Struct, frozen=True):
    """The curve and the metrics of one score."""

    name: str
    accuracy: tuple[float, ...]
    """At shares of 0, 1, 2 … 100 %."""
    auc: Interval
    """Mean accuracy over all shares."""
    apgr: Interval
    oracle_part: Interval
    """APGR divided by the oracle's APGR."""
    normalised: Interval
    cpt50: Interval
    """A share, 0 to 1."""
    cpt80: Interval


class Curves(msgspec.Struct, frozen=True):
    """The curves of several scores on the same questions."""

    questions: int
    small_accuracy: Interval
    large_accuracy: Interval
    auroc: Interval
    """Probability that a right answer of the small model has a higher statistic than a wrong one."""
    curves: tuple[Curve, ...]

    def table(self) -> str:
        lines = [
            f"{self.questions} questions; [the middle 95 % of the bootstrap]",
            f"always small: right {self.small_accuracy}",
            f"always large: right {self.large_accuracy}",
            f"AUROC of the statistic: {self.auroc}",
            "",
            f"{'sent to the large by':<24}{'AUC':<23}{'APGR':<23}{'normalised':<25}{'CPT(50)':<23}CPT(80)",
        ]
        for curve in self.curves:
            figures = f"{curve.auc!s:<23}{curve.apgr!s:<23}{curve.normalised!s:<25}{curve.cpt50!s:<23}{curve.cpt80}"
            lines.append(f"{curve.name:<24}{figures}")
        return "\n".join(lines)


class _Order:
    """The order of the questions by one score, from which a curve is computed for any weights of the questions."""

    def __init__(self, scores: Sequence[float], gains: Floats) -> None:
        levels, self._level = np.unique(np.asarray(scores, np.float64), return_inverse=True)
        self._levels, self._gains = len(levels), gains

    def points(self, weights: Floats) -> tuple[Floats, Floats]:
        """Points of the piecewise linear curve: shares, and the gain in accuracy over the small model."""
        total = weights.sum()
        shares = np.bincount(self._level, weights, self._levels).cumsum() / total
        gained = np.bincount(self._level, weights * self._gains, self._levels).cumsum() / total
        return np.concatenate(([0.0], shares)), np.concatenate(([0.0], gained))


def _area(shares: Floats, gained: Floats) -> float:
    return float(np.trapezoid(gained, shares))


def _first(shares: Floats, gained: Floats, goal: float) -> float:
    """The smallest share at which the gain reaches the goal; 1 if it never does."""
    reached = np.flatnonzero(gained >= goal - 1e-12)
    if not len(reached):
        return 1.0
    at = int(reached[0])
    if at == 0:
        return 0.0
    before, after = gained[at - 1], gained[at]
    return float(shares[at - 1] + (shares[at] - shares[at - 1]) * (goal - before) / (after - before))


def _auroc(scores: Floats, right: Floats, weights: Floats) -> float:
    levels, level = np.unique(scores, return_inverse=True)
    good = np.bincount(level, weights * right, len(levels))
    bad = np.bincount(level, weights * (1 - right), len(levels))
    pairs = good.sum() * bad.sum()
    below = bad.cumsum() - bad
    return float((good * (below + bad / 2)).sum() / pairs) if pairs else 0.5


def deferral_curves(
    outcomes: Sequence[tuple[bool, bool]],
    scores: Mapping[str, Sequence[float]],
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Curves:
    """Curves of the named scores, of chance and of the oracle. The first score is the statistic; low scores go first.

    `outcomes`: of each question, whether the small and the large model answered it correctly.

    Raises:
        ValueError: there are no questions or no scores, or a score is NaN.
    """
    if not outcomes or not scores:
        raise ValueError("a curve takes questions and at least one score")
    small, large = np.array(outcomes, np.float64).T
    gains, count = large - small, len(outcomes)
    if any(np.isnan(values).any() for values in scores.values()):
        raise ValueError("a score is not a number")
    orders = {name: _Order(values, gains) for name, values in scores.items()}
    orders |= {"chance": _Order([0.0] * count, gains), "oracle": _Order((-gains).tolist(), gains)}
    ones = np.ones(count)
    draws = [ones, *(rng.multinomial(count, ones / count).astype(np.float64) for _ in range(resamples))]
    points = {name: [order.points(weights) for weights in draws] for name, order in orders.items()}
    base = [float(weights @ small) / count for weights in draws]
    lead = [float(weights @ gains) / count for weights in draws]
    first = np.asarray(next(iter(scores.values())), np.float64)

    def spread(figure: Callable[[int], float]) -> Interval:
        values = [figure(draw) for draw in range(len(draws))]
        low, high = np.quantile(np.asarray(values[1:] or values), (0.025, 0.975))
        return Interval(values[0], float(low), float(high))

    def curve(name: str) -> Curve:
        own, oracle = points[name], points["oracle"]

        def apgr(shares_and_gains: tuple[Floats, Floats], draw: int) -> float:
            # Without a lead nothing can be recovered: every order counts as chance.
            return _area(*shares_and_gains) / lead[draw] if lead[draw] > 0 else 0.5

        def normalised(draw: int) -> float:
            oracle_margin = apgr(oracle[draw], draw) - 0.5
            return (apgr(own[draw], draw) - 0.5) / oracle_margin if oracle_margin > 0 else 0.0

        shares, gained = own[0]
        return Curve(
            name,
            tuple((base[0] + np.interp(_GRID, shares, gained)).tolist()),
            auc=spread(lambda draw: base[draw] + _area(*own[draw])),
            apgr=spread(lambda draw: apgr(own[draw], draw)),
            oracle_part=spread(lambda draw: apgr(own[draw], draw) / apgr(oracle[draw], draw)),
            normalised=spread(normalised),
            cpt50=spread(lambda draw: _first(*own[draw], 0.5 * lead[draw])),
            cpt80=spread(lambda draw: _first(*own[draw], 0.8 * lead[draw])),
        )

    return Curves(
        count,
        small_accuracy=spread(lambda draw: base[draw]),
        large_accuracy=spread(lambda draw: base[draw] + lead[draw]),
        auroc=spread(lambda draw: _auroc(first, small, draws[draw])),
        curves=tuple(map(curve, orders)),
    )
