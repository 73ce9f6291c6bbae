"""Runs cut into blocks of time, which are what a bootstrap draws.

Requests that are close in time share a queue, so that their latencies are not independent; drawing single ones would
give intervals that are too narrow (Künsch 1989; Lahiri 2003). Blocks with the same place in the same schedule are drawn
together for both sides: what a hard moment of the schedule costs both is then no difference.
"""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from loadtests.model.latency_histogram import middle_of
from loadtests.model.run_record import Measures, RequestRow, RunRecord

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
ENOUGH_BLOCKS = 10
"""Of all runs of a side; whole runs if there are so many. More and shorter blocks gain little (Schmeiser 1982), and are
no longer independent: a queue near its limit is alike for many seconds."""
_EDGE_S = 1e-6
"""Sums of seconds are inexact by less."""
_AT_ONCE = 500
"""Draws that are summed up together: it bounds the memory."""


class Drawn(msgspec.Struct):
    """How often each block is in each draw: [draws, blocks]."""

    times: Numbers


class TimedValues(msgspec.Struct):
    """Values of some requests, ascending, each with its block and its number of occurrences."""

    values: Numbers
    blocks: Places
    counts: Numbers

    @property
    def count(self) -> float:
        return float(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """Of all."""
        if not len(self.values):
            return 0.0
        blocks = int(self.blocks.max()) + 1
        return float(self.percentiles(Drawn(np.ones((1, blocks))), percent)[0])

    def mean(self) -> float:
        return float(self.values @ self.counts / self.count) if len(self.values) else 0.0

    def percentiles(self, drawn: Drawn, percent: float) -> Numbers:
        """Of each draw; between two values it is interpolated, so that the buckets of a histogram make no steps.

        A search by halves for all draws at once: only the counts of the places that it looks at are summed up.
        """
        times = drawn.times
        reached = self._reached(times.shape[1])
        wanted = np.maximum(times @ reached[:, -1] * percent / 100, 1e-9)
        low = np.full(len(times), -1)  # nothing is reached before the first value
        high = np.full(len(times), len(self.values) - 1)
        while (high - low > 1).any():
            middle = (low + high) // 2
            is_enough = _sum_at(times, reached, middle) >= wanted
            high = np.where(is_enough, middle, high)
            low = np.where(is_enough, low, middle)
        below = np.where(high > 0, _sum_at(times, reached, np.maximum(high - 1, 0)), 0.0)
        inside = np.maximum(_sum_at(times, reached, high) - below, 1e-12)
        part = np.clip((wanted - below) / inside, 0.0, 1.0)
        before = self.values[np.maximum(high - 1, 0)]
        found: Numbers = before + (self.values[high] - before) * part
        return found

    def means(self, drawn: Drawn) -> Numbers:
        """Of each draw."""
        blocks = drawn.times.shape[1]
        sums = np.bincount(self.blocks, self.values * self.counts, blocks)
        numbers = np.bincount(self.blocks, self.counts, blocks)
        return (drawn.times @ sums) / np.maximum(drawn.times @ numbers, 1e-12)

    def _reached(self, blocks: int) -> Counts:
        """By block and value: how many of the block are up to the value: [blocks, values]."""
        counts = np.zeros((blocks, len(self.values)), dtype=np.int32)
        counts[self.blocks, np.arange(len(self.values))] = self.counts
        return np.cumsum(counts, axis=1, dtype=np.int32)


class TimeBlocks:
    """The measured parts of runs of one side: their whole windows, as a window tells no more of its requests."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self._records = records
        most = -(-ENOUGH_BLOCKS // len(records))
        self._edges = [_edges(record, most) for record in records]
        counts = [len(edges) - 1 for edges in self._edges]
        self.by_run = counts
        self._first: list[int] = [0, *np.cumsum(counts)[:-1].tolist()]
        self.count = sum(counts)
        self.seconds = np.concatenate([np.diff(edges) for edges in self._edges])

    def of_requests(self, value: Callable[[RequestRow], float | None]) -> TimedValues:
        """One value for each whole answer that has it."""
        found = [
            (each, self._place(run, row.intended_s))
            for run, record in enumerate(self._records)
            for row in record.rows
            if row.measured
            and self._is_inside(run, row.intended_s)
            and row.outcome == "ok"
            and (each := value(row)) is not None
        ]
        values = np.array([each for each, _ in found], dtype=np.float64)
        blocks = np.array([place for _, place in found], dtype=np.int64)
        return _sorted(values, blocks, np.ones(len(found)))

    def of_gaps(self) -> TimedValues:
        """Every gap between two events, from the histograms of the windows."""
        values: list[float] = []
        blocks: list[int] = []
        counts: list[float] = []
        for run, record in enumerate(self._records):
            for window in record.windows:
                if self._is_inside(run, window.begins_s):
                    place = self._place(run, window.begins_s)
                    for bucket, number in window.measures.latencies.itl.buckets.items():
                        values.append(middle_of(bucket))
                        blocks.append(place)
                        counts.append(number)
        return _sorted(np.array(values), np.array(blocks, dtype=np.int64), np.array(counts))

    def of_counts(self, count: Callable[[Measures], float]) -> Numbers:
        """Something counted, by block: [blocks]."""
        sums = np.zeros(self.count)
        for run, record in enumerate(self._records):
            for window in record.windows:
                if self._is_inside(run, window.begins_s):
                    sums[self._place(run, window.begins_s)] += count(window.measures)
        return sums

    def _place(self, run: int, at_s: float) -> int:
        return self._first[run] + int(np.searchsorted(self._edges[run], at_s + _EDGE_S, side="right")) - 1

    def _is_inside(self, run: int, at_s: float) -> bool:
        edges = self._edges[run]
        return bool(edges[0] <= at_s + _EDGE_S < edges[-1])


def _sum_at(times: Numbers, reached: Counts, places: Places) -> Numbers:
    """For each draw: the sum over its blocks at its own place."""
    total = np.zeros(len(times))
    for begin in range(0, len(times), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        total[part] = np.einsum("db,bd->d", times[part], reached[:, places[part]])
    return total


def draw_blocks(sides: Sequence[TimeBlocks], draws: int, seed: int, *, together: bool) -> list[Drawn]:
    """Bootstrap draws for each side. `together`: the same places of all, which must have the same blocks."""
    rng = np.random.default_rng(seed)
    if together:
        assert all(side.by_run == sides[0].by_run for side in sides), (
            "blocks are drawn together of equal schedules only"
        )
        return [Drawn(_multiplicities(rng, sides[0].count, draws))] * len(sides)
    return [Drawn(_multiplicities(rng, side.count, draws)) for side in sides]


def _multiplicities(rng: np.random.Generator, blocks: int, draws: int) -> Numbers:
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)


def _edges(record: RunRecord, most: int) -> Numbers:
    """Where blocks begin, and where the last one ends: each is some whole windows, all of them measured.

    A run that is too short to have one has a block of all windows that it touches, which no verdict comes from.
    """
    header = record.header
    begin, end = header.warm_up_s / header.window_s, (header.warm_up_s + header.measured_s) / header.window_s
    first, last = math.ceil(begin - _EDGE_S), math.floor(end + _EDGE_S)
    count = min(most, last - first)
    if count < 1:
        count, first = 1, math.floor(begin)
        last = max(math.ceil(end), first + 1)
    places = np.array([first + (last - first) * place // count for place in range(count + 1)], dtype=np.float64)
    return places * header.window_s


def _sorted(values: Numbers, blocks: Places, counts: Numbers) -> TimedValues:
    order = np.argsort(values, kind="stable")
    return TimedValues(values[order], blocks[order], counts[order])
