"""Deferral statistics: one number for the small model's confidence in an answer, updated token by token.

All are computed from margins: the log-probability of the best token minus that of the second best, in nats. A small
margin means low confidence. An answer whose statistic is below the cascade's threshold goes to the large model.

- `min_margin`: the smallest margin. It never rises, so an answer can escalate at its first low margin.
- `joint_margin`: the log-odds that the best token is drawn at every step, if every step draws from its best two tokens;
  for one token this is its margin. It never rises; over many uncertain tokens it falls below 0.
- `low_quantile`: the 10 % quantile of the margins, interpolated. One low margin in a long answer changes it little.
  It can rise again, so that it decides only at the end of the answer.
"""

import math
from typing import ClassVar

import msgspec

from config.model.calibration import Statistic

_QUANTILE = 0.1


class MinMargin(msgspec.Struct):
    """`min_margin`."""

    falls: ClassVar = True
    value: float = math.inf

    def add(self, margin: float) -> None:
        # `not >=` rather than `<`: once a margin is NaN the value stays NaN, which counts as unsure.
        if not margin >= self.value and not math.isnan(self.value):
            self.value = margin


class JointMargin(msgspec.Struct):
    """`joint_margin`."""

    falls: ClassVar = True
    _loss: float = 0.0
    """Minus the log-probability that the best token is drawn at every step."""

    def add(self, margin: float) -> None:
        # Both forms are log(1 + e^-margin); for a margin far below 0, which a simulation may draw, the first overflows.
        self._loss += math.log1p(math.exp(-margin)) if margin >= 0 else math.log1p(math.exp(margin)) - margin

    @property
    def value(self) -> float:
        if self._loss == 0:
            return math.inf
        # log(p / (1 - p)) with p = exp(-loss); above 50 the 1 is negligible, and exp could overflow.
        return -self._loss if self._loss > 50 else -math.log(math.expm1(self._loss))


class LowQuantile(msgspec.Struct):
    """`low_quantile`."""

    falls: ClassVar = False
    _margins: list[float] = []

    def add(self, margin: float) -> None:
        self._margins.append(margin)

    @property
    def value(self) -> float:
        if not self._margins:
            return math.inf
        if any(math.isnan(margin) for margin in self._margins):
            return math.nan
        ordered = sorted(self._margins)
        rank = _QUANTILE * (len(ordered) - 1)
        below = int(rank)
        low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
        return low if low == high else low + (rank - below) * (high - low)


Deferral = MinMargin | JointMargin | LowQuantile
"""The statistic of one answer: `value` is inf before the first token, and NaN once a margin was NaN."""
_STATISTICS: dict[Statistic, type[Deferral]] = {
    "min_margin": MinMargin,
    "joint_margin": JointMargin,
    "low_quantile": LowQuantile,
}


def new_statistic(name: Statistic) -> Deferral:
    """The statistic of this name for a new answer."""
    return _STATISTICS[name]()


def falls(name: Statistic) -> bool:
    """Whether the statistic never rises, so that it can decide before the answer's end. Mode `window` requires it."""
    return _STATISTICS[name].falls


def statistic_of(name: Statistic, margins: tuple[float, ...]) -> float:
    """The statistic of a complete answer with these margins."""
    statistic = new_statistic(name)
    for margin in margins:
        statistic.add(margin)
    return statistic.value
