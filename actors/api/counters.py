"""Counters and histograms: what has happened since the start.

Written, without a wait in between, by whichever task of the loop ends a request or sees a token; so it needs no actor.
"""

from bisect import bisect_left
from collections import Counter

from actors.api.statistics import LATENCY_BOUNDS_S, Histogram, LatencyStatistics, RequestKey


class HistogramCounter:
    """A histogram under way."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """One observation."""
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.sum += seconds

    def frozen(self) -> Histogram:
        """As it stands."""
        return Histogram(LATENCY_BOUNDS_S, tuple(self.counts), self.sum)


class ServiceCounters:
    """All of them."""

    def __init__(self) -> None:
        self.requests: Counter[RequestKey] = Counter()
        self.refusals: Counter[str] = Counter()
        self.escalations: Counter[tuple[str, str]] = Counter()
        self.fallbacks: Counter[tuple[str, str, str]] = Counter()
        self.notices: Counter[tuple[str, str]] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.discarded_tokens = 0
        self.overruns = 0
        self.ttft = HistogramCounter()
        self.itl = HistogramCounter()
        self.e2e = HistogramCounter()
        self.queue_wait = HistogramCounter()

    def latency(self) -> LatencyStatistics:
        """The histograms as they stand."""
        return LatencyStatistics(self.ttft.frozen(), self.itl.frozen(), self.e2e.frozen(), self.queue_wait.frozen())
