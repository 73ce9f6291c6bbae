"""Sizes of the cells, and what a cell gives: named figures with units."""

from collections.abc import Sequence
from typing import Literal

import msgspec

Better = Literal["more", "less", "none"]


class Figure(msgspec.Struct, frozen=True):
    """One measured value."""

    name: str
    unit: str
    value: float
    better: Better = "less"
    fault: bool = False
    """A count that should be zero: rounds are added up, not their median taken."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much each cell does."""

    seconds: float = 5.0
    """Of each measured span."""
    warm_s: float = 1.0
    """Before it."""
    drain_s: float = 10.0
    """At most, for answers that have begun to end."""
    whole_tokens: int = 100
    whole_connections: tuple[int, ...] = (1, 32)
    stream_events: int = 100
    streams: tuple[int, ...] = (1, 32, 200)
    cpu_at: int = 32
    """CPU time is reported for this number of connections or streams."""
    rate_hz: float = 50.0
    """Events a second of a paced stream."""
    paced: int = 100
    many: int = 500
    latency_requests: int = 1000
    most_gap_s: float = 0.02
    """Added gap (p99) up to which a core holds its streams."""
    search_from: int = 100
    search_most: int = 4000
    search_s: float = 3.0
    prompt_bytes: int = 400_000
    long_connections: int = 4
    long_beside: int = 50
    idle_streams: int = 512
    memory_warm_requests: int = 12_000
    memory_requests: int = 50_000
    memory_s: float = 600.0
    """At most, for all requests of the memory cell."""


TINY = Sizes(
    seconds=0.3,
    warm_s=0.1,
    drain_s=10.0,
    whole_connections=(1, 2),
    stream_events=10,
    streams=(1, 2, 4),
    cpu_at=2,
    paced=4,
    many=6,
    latency_requests=20,
    search_from=2,
    search_most=4,
    search_s=0.3,
    prompt_bytes=40_000,
    long_connections=2,
    long_beside=2,
    idle_streams=8,
    memory_warm_requests=20,
    memory_requests=50,
    memory_s=30.0,
)
"""To see that everything works; the figures say nothing."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Faults:
    """Counts over all clients of a cell."""

    def __init__(self) -> None:
        self.lost = self.failed = self.unfinished = self.retried = 0

    def figures(self) -> list[Figure]:
        counts = {
            "lost": self.lost,
            "failed answers": self.failed,
            "unfinished answers": self.unfinished,
            "asked twice": self.retried,
        }
        return [Figure(name, "", count, fault=True) for name, count in counts.items()]
