"""Deferral statistics: one number for how sure the small model was of an answer, built up token by token.

All are made of margins: the difference in nats between the best token's log-probability and the second best's. Small
means unsure. An answer whose statistic ends below the cascade's threshold goes to the large model.

- `min_margin`: the smallest margin. It only falls, so an answer can be given up at the first low one.
- `joint_margin`: the log-odds that the best token wins at every step, each drawn from the best two; of one token its
  margin. It only falls, too; many slight doubts add up to a great one, and then it is below 0.
- `low_quantile`: the margin that a tenth of the answer's tokens stay below, between two of them if need be. Forgives
  one stumble in a long answer; moves both ways, so that it decides at the end only.
"""

import math
from typing import Protocol

from config.model.calibration import Statistic

_QUANTILE = 0.1


class Deferral(Protocol):
    """One answer's statistic, in the making."""

    falls: bool
    """It never rises, so that it decides as soon as it is below the threshold."""

    @property
    def value(self) -> float:
        """In nats, over the tokens so far; the highest that it can be before the first. NaN once a margin was NaN."""

    def add(self, margin: float) -> None:
        """One more token."""


class MinMargin:
    """See the module."""

    __slots__ = ("value",)
    falls = True

    def __init__(self) -> None:
        self.value = math.inf

    def add(self, margin: float) -> None:
        """One more token."""
        # `not >=` rather than `<`: a margin that is not a number stays, for it is no reason for trust.
        if not margin >= self.value and not math.isnan(self.value):
            self.value = margin


class JointMargin:
    """See the module."""

    __slots__ = ("_doubt",)
    falls = True

    def __init__(self) -> None:
        self._doubt = 0.0
        """Minus the log-probability that all win."""

    def add(self, margin: float) -> None:
        """One more token."""
        self._doubt += math.log1p(math.exp(-margin))

    @property
    def value(self) -> float:
        """In nats, over the tokens so far."""
        if self._doubt == 0:
            return math.inf
        # log(p / (1 - p)) with p = exp(-doubt); beyond 50 the 1 does not count, and exp would overflow.
        return -self._doubt if self._doubt > 50 else -math.log(math.expm1(self._doubt))


class LowQuantile:
    """See the module."""

    __slots__ = ("_margins",)
    falls = False

    def __init__(self) -> None:
        self._margins: list[float] = []

    def add(self, margin: float) -> None:
        """One more token."""
        self._margins.append(margin)

    @property
    def value(self) -> float:
        """In nats, over the tokens so far."""
        if not self._margins:
            return math.inf
        if any(math.isnan(margin) for margin in self._margins):
            return math.nan
        ordered = sorted(self._margins)
        place = _QUANTILE * (len(ordered) - 1)
        below = int(place)
        low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
        return low if low == high else low + (place - below) * (high - low)


_STATISTICS: dict[Statistic, type[MinMargin] | type[JointMargin] | type[LowQuantile]] = {
    "min_margin": MinMargin,
    "joint_margin": JointMargin,
    "low_quantile": LowQuantile,
}


def new_statistic(name: Statistic) -> Deferral:
    """One for a fresh answer."""
    return _STATISTICS[name]()


def falls(name: Statistic) -> bool:
    """Whether the statistic can decide before the answer's end, as mode `window` needs."""
    return _STATISTICS[name].falls


def statistic_of(name: Statistic, margins: tuple[float, ...]) -> float:
    """The statistic of a whole answer."""
    statistic = new_statistic(name)
    for margin in margins:
        statistic.add(margin)
    return statistic.value
