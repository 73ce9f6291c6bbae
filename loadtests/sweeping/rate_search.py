"""Searches the highest rate at which a share of requests is good, by runs whose shares are noisy. Pure.

First a bracket: the rate is doubled while the share is high enough, or halved until it is. Then bisection with
probabilities (Horstein 1963; Waeber, Frazier & Henderson 2013): every rate on a grid, with every steepness of the
curve around it, has a probability of being the wanted one; each run multiplies it by how likely its share is then; and
the next rate to try is the median. Plain bisection never comes back from one wrong answer, and a short run near the
limit gives wrong ones. Here further runs outweigh it; and a run that is nearly good enough says that the limit is near.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

_STEP = 0.005
"""Of the grid, as a share of the rate."""
_STEEPNESS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Standard deviations of the normal curve by which the share falls while the rate grows by its e-fold."""
_CURVE_ERROR = 0.01
"""Of a share: no curve is quite of this form."""
_DISTURBED = 0.02
"""So many runs say nothing: what disturbs a whole run is not in its statistics."""
_BY_SIDE = 0.2
"""Of what is believed of a run: the curve may be of another form, such as a cliff, and then the run tells only on which
side of the limit it is."""
_FADING = 2.0
"""By so much less likely is a rate outside of the bracket with each e-fold."""
_CREDIBLE = 0.8
_NORMAL = NormalDist()
_Grid = npt.NDArray[np.float64]


class FoundRate(msgspec.Struct, frozen=True):
    """Where the wanted rate is."""

    rate: float
    low: float
    """With `high`: the wanted rate lies between them with 80 %."""
    high: float

    @property
    def width(self) -> float:
        """How far the farther bound is away, as a share."""
        return max(self.high / self.rate, self.rate / self.low) - 1


class RateSearch:
    """Ask `next_rate`, try it, and `take` what came of it."""

    def __init__(
        self, first: float, lowest: float, highest: float, *, target: float, tolerance: float, most: int
    ) -> None:
        """`target`: the wanted share. `tolerance`: the search ends at such a width. `most`: runs."""
        count = max(2, math.ceil(math.log(highest / lowest) / _STEP) + 2)
        self._rates: _Grid = lowest * np.exp(_STEP * (np.arange(count) - 0.5))
        self._weights: _Grid = np.full((len(_STEEPNESS), count), 1.0 / count / len(_STEEPNESS))
        self._first = min(max(first, lowest), highest)
        self._lowest, self._highest = lowest, highest
        self._target = target
        self._tolerance = tolerance
        self._most = most
        self.tried = 0
        self._holding: float | None = None
        """The highest rate whose run was good enough, and the lowest whose run was not."""
        self._broken: float | None = None

    @property
    def is_bracketed(self) -> bool:
        return self._holding is not None and self._broken is not None

    @property
    def never_held(self) -> bool:
        """Not even the lowest rate."""
        return self._holding is None and self._broken is not None and self._broken <= self._lowest

    @property
    def never_broke(self) -> bool:
        """Not even the highest rate."""
        return self._broken is None and self._holding is not None and self._holding >= self._highest

    @property
    def is_found(self) -> bool:
        return self.is_bracketed and self.found().width <= self._tolerance

    def next_rate(self) -> float | None:
        """None: the search is over."""
        if self.tried >= self._most or self.never_held or self.never_broke or self.is_found:
            return None
        if self._holding is None and self._broken is None:
            return self._first
        if self._broken is None:
            return min(2 * (self._holding or self._first), self._highest)
        if self._holding is None:
            return max(self._broken / 2, self._lowest)
        return min(max(self.found().rate, self._lowest), self._highest)

    def take(self, rate: float, share: float, error: float) -> None:
        """The share of good requests in a run at this rate, and its standard error."""
        self.tried += 1
        was_bracketed = self.is_bracketed
        if share >= self._target:
            self._holding = max(rate, self._holding or 0.0)
        else:
            self._broken = min(rate, self._broken or math.inf)
        if self.is_bracketed and not was_bracketed:
            self._believe_bracket()
        at_limit = _NORMAL.inv_cdf(self._target)
        spread = math.hypot(error, _CURVE_ERROR)
        away = np.log(self._rates / rate)
        holds = _NORMAL.cdf((share - self._target) / spread)
        by_side = np.where(away >= 0, holds, 1 - holds)
        for row, steepness in enumerate(_STEEPNESS):
            z = (share - _normal(at_limit + steepness * away)) / spread
            on_curve = np.exp(-0.5 * z * z)
            self._weights[row] *= (1 - _BY_SIDE - _DISTURBED) * on_curve + _BY_SIDE * by_side + _DISTURBED
        self._weights /= self._weights.sum()

    def _believe_bracket(self) -> None:
        """Rates outside are less likely the farther away they are, but not impossible: an end may be wrong."""
        low, high = min(self._holding or 0.0, self._broken or 0.0), max(self._holding or 0.0, self._broken or 0.0)
        outside = np.maximum(np.maximum(np.log(low / self._rates), np.log(self._rates / high)), 0.0)
        self._weights *= np.exp(-_FADING * outside)

    def found(self) -> FoundRate:
        """As far as it is known by now."""
        sums = np.cumsum(self._weights.sum(axis=0))
        rest = (1 - _CREDIBLE) / 2
        places = np.minimum(np.searchsorted(sums, [0.5, rest, 1 - rest]), len(sums) - 1)
        rate, low, high = self._rates[places].tolist()
        return FoundRate(rate, low, high)

    def expected_left(self) -> int:
        """How many rates are likely to be tried still."""
        if self.next_rate() is None:
            return 0
        width = min(self.found().width, 1.0) if self.is_bracketed else 1.0
        guess = 1 + math.ceil(math.log2(max(width / self._tolerance, 1.0)))
        return min(guess if self.is_bracketed else guess + 2, self._most - self.tried)


def tried_until_found(search: RateSearch, run: Callable[[float], tuple[float, float]]) -> FoundRate:
    """The whole search with a function in place of runs: the share of a rate, and its error."""
    while (rate := search.next_rate()) is not None:
        search.take(rate, *run(rate))
    return search.found()


def _normal(z: _Grid) -> _Grid:
    """The normal distribution's share below, to seven digits (Abramowitz & Stegun 1964, 26.2.17)."""
    size = np.abs(z)
    t = 1 / (1 + 0.2316419 * size)
    series = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * size * size) / math.sqrt(2 * math.pi) * series
    return np.where(z > 0, 1 - tail, tail)
