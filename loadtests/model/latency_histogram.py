"""Histograms of times that merge without loss, with percentiles and their confidence intervals.

Buckets grow by 0.2 %, so that a percentile is within 0.1 % of a value that was recorded. Two histograms with the same
buckets are merged by adding their counts: the result is the one that all values together would have given.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

_GROWTH = math.log(1.002)
_SMALLEST_S = 1e-6
"""Bucket 0 holds all times up to this one."""
_BUCKETS = 14_000
"""The last one holds all times beyond 16 days."""
_Z95 = 1.959963984540054
_EXACT_BELOW = 200
"""Expected samples beyond a percentile: below it the binomial distribution is summed up, else taken as normal."""


class PercentileInterval(msgspec.Struct, frozen=True):
    """A percentile, and where that of all requests that could have been made lies with 95 %, if they were independent.

    Requests that wait in the same queue are not: then it is a lower bound of how unsure the percentile is.
    """

    value: float
    low: float
    high: float | None
    """None: there are too few samples to bound it from above."""


class LatencyHistogram(msgspec.Struct, omit_defaults=True):
    """Times in seconds."""

    count: int = 0
    sum_s: float = 0.0
    min_s: float = 0.0
    max_s: float = 0.0
    buckets: dict[int, int] = msgspec.field(default_factory=dict)
    """By bucket: number of values. Bucket k holds those above 1 µs x 1.002^(k-1), up to 1 µs x 1.002^k."""

    def add_one(self, value: float, *, step: int = 1) -> None:
        """Record one value, as `add` does: ten times as fast for one."""
        value = max(value, 0.0)
        key = min(max(math.ceil(math.log(max(value, _SMALLEST_S) / _SMALLEST_S) / _GROWTH), 0), _BUCKETS)
        self._extend(1, value, value, value, ((-(-key // step) * step, 1),))

    def add(self, values: Sequence[float] | npt.NDArray[np.float64], *, step: int = 1) -> None:
        """Record values; those below zero count as zero. `step`: so many buckets become one, for smaller files."""
        if not len(values):
            return
        times = np.maximum(np.asarray(values, dtype=np.float64), 0.0)
        keys = np.ceil(np.log(np.maximum(times, _SMALLEST_S) / _SMALLEST_S) / _GROWTH)
        wide = -(-np.minimum(keys, _BUCKETS).astype(np.int64) // step) * step
        found, counts = np.unique(wide, return_counts=True)
        low, high = float(times.min()), float(times.max())
        self._extend(len(times), float(times.sum()), low, high, zip(found.tolist(), counts.tolist(), strict=True))

    def merge(self, other: "LatencyHistogram") -> None:
        """Add all that the other one has recorded."""
        if other.count:
            self._extend(other.count, other.sum_s, other.min_s, other.max_s, other.buckets.items())

    def _extend(self, count: int, sum_s: float, low: float, high: float, buckets: Iterable[tuple[int, int]]) -> None:
        self.min_s = min(self.min_s, low) if self.count else low
        self.max_s = max(self.max_s, high)
        self.count += count
        self.sum_s += sum_s
        mine = self.buckets
        for key, number in buckets:
            mine[key] = mine.get(key, 0) + number

    @property
    def mean(self) -> float:
        """0.0: nothing was recorded."""
        return self.sum_s / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """The value below or at which so many per cent of the values are; 0.0: nothing was recorded."""
        return self._of_rank(max(1, math.ceil(percent / 100 * self.count))) if self.count else 0.0

    def interval(self, percent: float) -> PercentileInterval:
        """A percentile with its 95 % interval for independent values, by order statistics: no distribution is assumed.

        The ranks of the bounds are quantiles of the binomial distribution (David & Nagaraja, Order Statistics, 7.1).
        """
        if not self.count:
            return PercentileInterval(0.0, 0.0, None)
        low, high = ranks(self.count, percent / 100)
        top = self._of_rank(high) if high <= self.count else None
        return PercentileInterval(self.percentile(percent), self._of_rank(max(low, 1)) if low else self.min_s, top)

    def share_within(self, limit_s: float) -> float:
        """The share of values up to a limit, to the bucket; 0.0: nothing was recorded."""
        if not self.count:
            return 0.0
        last = math.ceil(math.log(max(limit_s, _SMALLEST_S) / _SMALLEST_S) / _GROWTH)
        return sum(number for key, number in self.buckets.items() if key <= last) / self.count

    def _of_rank(self, rank: int) -> float:
        """The value of the rank, counted from 1 for the smallest."""
        if rank >= self.count:
            return self.max_s
        seen = 0
        for key in sorted(self.buckets):
            seen += self.buckets[key]
            if seen >= rank:
                return min(max(middle_of(key), self.min_s), self.max_s)
        return self.max_s


def merged(histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
    """One histogram with the values of all."""
    whole = LatencyHistogram()
    for each in histograms:
        whole.merge(each)
    return whole


def ranks(count: int, share: float) -> tuple[int, int]:
    """Ranks (from 1) between which the quantile lies with 95 %; 0 below and count + 1 above: there is no bound."""
    beyond = 1.0 - share
    if count * min(share, beyond) > _EXACT_BELOW:
        spread = _Z95 * math.sqrt(count * share * beyond)
        return max(0, math.floor(count * share - spread)), min(count + 1, math.ceil(count * share + spread) + 1)
    # The smaller tail is summed up from its end.
    below, above = _tail_ranks(count, min(share, beyond))
    if beyond <= share:
        return count + 1 - above, count + 1 - below
    return below, above


def _tail_ranks(count: int, share: float) -> tuple[int, int]:
    """`ranks` for a share below one half, from B(count, share): the largest and smallest ranks beyond its quantiles."""
    if share <= 0.0:
        return 0, 1
    probability = math.exp(count * math.log1p(-share))
    total, successes = probability, 0
    low = 0
    while total < 0.975 and successes < count:
        if total <= 0.025:
            low = successes + 1
        probability *= (count - successes) / (successes + 1) * share / (1.0 - share)
        successes += 1
        total += probability
    return low, successes + 1


def middle_of(key: int) -> float:
    """The time that stands for all in a bucket, in seconds."""
    return _SMALLEST_S * math.exp((key - 0.5) * _GROWTH) if key else _SMALLEST_S
