"""What a worker has measured so far, kept so that it can be merged with what others have."""

import math
from array import array
from collections.abc import Iterable
from random import Random

import msgspec
import numpy as np
import numpy.typing as npt

from loadtests.client import failures
from loadtests.model.run_record import (
    DeliveredCounts,
    FailureCount,
    GeneratorLag,
    Latencies,
    Measures,
    RequestRow,
    RunWindow,
)
from loadtests.model.scenario import Scenario
from loadtests.model.timing import duration_of, warm_up_of
from loadtests.running.finished_request import FinishedRequest, Labels, cost_of, is_good, labels_of, row_of, slo_of
from loadtests.running.pending_times import PendingTimes

_MOST_FAILURES = 1000
"""Kinds of failures that are counted by themselves."""
_MOST_GROUPS = 2000
_LAGS_AT_ONCE = 4096
_STEP = 10
"""Histograms of windows have buckets of two per cent."""
_Times = npt.NDArray[np.float64]
FailureKey = tuple[str, int, str, str]
"""Name, status, code, tier."""


class WorkerTally(msgspec.Struct):
    """The measurements of one worker, or of several that were merged."""

    groups: list[tuple[Labels, Measures]] = []
    """Of the requests after the warm-up."""
    windows: dict[int, RunWindow] = {}
    failures: list[FailureCount] = []
    lag: GeneratorLag = msgspec.field(default_factory=GeneratorLag)
    rows: list[RequestRow] = []
    requests: int = 0
    server: str = ""
    faults: list[str] = []
    """What went wrong on this side, in words."""


class Tally:
    """Counts the requests of one worker as they end."""

    def __init__(self, scenario: Scenario, *, window_s: float, rows: int, seed: str) -> None:
        """`rows`: to keep of all requests, an even sample."""
        self._scenario = scenario
        self._warm_up_s = warm_up_of(scenario)
        self._end_s = duration_of(scenario)
        self._window_s = window_s
        self._most_rows = rows
        self._rng = Random(seed)  # noqa: S311  (no secret)
        self._groups: dict[Labels, Measures] = {}
        self._windows: dict[int, RunWindow] = {}
        self._failures: dict[FailureKey, FailureCount] = {}
        self._lag = GeneratorLag()
        self._rows: list[RequestRow] = []
        self._seen = 0
        self._pending = PendingTimes()
        self._server = ""
        self._faults: list[str] = []
        self.read_lags = array("d")
        """Filled by the connections; see `take_lags`."""

    def sent(self, at_s: float, lag_s: float) -> None:
        """A request was sent at this time of the run, so late."""
        self._pending.add(self._lag.sending, lag_s)
        self._window(at_s).sent += 1

    def take_lags(self, at_s: float) -> "array[float]":
        """Empty `read_lags` into the histogram, some at a time: it must not become the lag. Returns those."""
        some = self.read_lags[:_LAGS_AT_ONCE]
        if not some:
            return some
        del self.read_lags[:_LAGS_AT_ONCE]
        lags = np.frombuffer(some)
        self._lag.reading.add(lags)
        window = self._window(at_s)
        rank = len(some) * 99 // 100
        window.lag_p99_s = max(window.lag_p99_s, float(np.partition(lags, rank)[rank]))
        return some

    def in_flight(self, at_s: float, count: int) -> None:
        self._window(at_s).in_flight = count

    def ended(self, request: FinishedRequest) -> None:
        """A request has ended, in whatever way."""
        scenario = self._scenario
        labels = labels_of(request, scenario)
        good = is_good(request, slo_of(labels[1], scenario))
        cost = cost_of(request, labels, scenario)
        measured = request.intended_s >= self._warm_up_s
        is_whole = not request.answer.failure
        times = np.frombuffer(request.answer.times)
        gaps = np.diff(times)
        arrivals = times - request.begun_s if len(times) else np.array([request.end_s])
        weight = _tokens_of(request) / len(arrivals)
        inside = weight * int(np.count_nonzero((arrivals >= self._warm_up_s) & (arrivals < self._end_s)))
        ended_inside = self._warm_up_s <= request.end_s < self._end_s
        if measured or inside or ended_inside:
            delivered = self._group(labels).delivered
            _add_tokens(delivered, inside, good=good)
            if ended_inside:
                _add_answer(delivered, request, cost, good=good)
        if measured:
            measures = self._group(labels)
            _count(measures, request, cost, good=good)
            if is_whole:
                self._time(measures.latencies, request)
                self._pending.add_all(measures.latencies.itl, gaps)
        window = self._window(request.intended_s).measures
        _count(window, request, cost, good=good)
        if is_whole:
            self._time(window.latencies, request, _STEP)
        last = self._window(request.end_s)
        last.ended += 1
        _add_answer(last.measures.delivered, request, cost, good=good)
        self._spread_tokens(arrivals, weight, good=good)
        if len(times):
            self._spread(arrivals, gaps if is_whole else None)
        self._server = self._server or request.answer.server
        if (fault := request.answer.own_fault) and fault not in self._faults:
            self._faults.append(fault)
        self._failed(request, labels)
        self._keep(row_of(request, labels, good=good, measured=measured))

    def result(self) -> WorkerTally:
        """All of it, for merging."""
        self._pending.flush()
        while self.read_lags:
            self.take_lags(max(self._windows, default=0) * self._window_s)
        return WorkerTally(
            groups=list(self._groups.items()),
            windows=self._windows,
            failures=list(self._failures.values()),
            lag=self._lag,
            rows=self._rows,
            requests=self._seen,
            server=self._server,
            faults=self._faults,
        )

    def _window(self, at_s: float) -> RunWindow:
        index = max(0, int(at_s / self._window_s))
        window = self._windows.get(index)
        if window is None:
            window = self._windows[index] = RunWindow(begins_s=index * self._window_s)
        return window

    def _group(self, labels: Labels) -> Measures:
        measures = self._groups.get(labels)
        if measures is None:
            key = labels if len(self._groups) < _MOST_GROUPS else (*labels[:5], "others")
            measures = self._groups.setdefault(key, Measures())
        return measures

    def _spread_tokens(self, arrivals: _Times, weight: float, *, good: bool) -> None:
        """`weight`: tokens of each event, which are of the second of its arrival."""
        if weight:
            places, counts = np.unique(np.maximum(arrivals / self._window_s, 0).astype(np.int64), return_counts=True)
            for place, count in zip(places.tolist(), counts.tolist(), strict=True):
                delivered = self._window((place + 0.5) * self._window_s).measures.delivered
                _add_tokens(delivered, weight * count, good=good)

    def _spread(self, times: _Times, gaps: _Times | None) -> None:
        """Each event, and each gap, into the second of its arrival. `gaps`: None if they are not to be counted."""
        # Ascending, although stamps may go back by a microsecond.
        index = np.maximum.accumulate(np.maximum(times / self._window_s, 0).astype(np.int64))
        first, begin = int(index[0]), 0
        for place, tokens in enumerate(np.bincount(index - first).tolist()):
            if tokens:
                window = self._window((first + place + 0.5) * self._window_s)
                window.tokens += tokens
                if gaps is not None:
                    # Gap k ends with event k + 1.
                    itl = window.measures.latencies.itl
                    self._pending.add_all(itl, gaps[max(begin - 1, 0) : begin + tokens - 1], step=_STEP)
                begin += tokens

    def _time(self, latencies: Latencies, request: FinishedRequest, step: int = 1) -> None:
        add = self._pending.add
        first, end, tpot = request.first_s, request.end_s, request.tpot_s
        if first is not None:
            add(latencies.ttft, first - request.intended_s, step=step)
            add(latencies.ttft_service, first - request.sent_s, step=step)
        add(latencies.e2e, end - request.intended_s, step=step)
        add(latencies.e2e_service, end - request.sent_s, step=step)
        if tpot is not None:
            add(latencies.tpot, tpot, step=step)
        if (queue := request.answer.timings.get("queue")) is not None:
            add(latencies.queue, queue, step=step)
        if request.free_s > request.intended_s:
            add(latencies.place, request.free_s - request.intended_s, step=step)
        if request.connect_s is not None:
            add(latencies.connect, request.connect_s, step=step)

    def _failed(self, request: FinishedRequest, labels: Labels) -> None:
        answer = request.answer
        if answer.failure in {"", failures.LEFT}:
            return
        key = (answer.failure, answer.status, answer.code, labels[1])
        known = self._failures.get(key)
        if known is None:
            if len(self._failures) >= _MOST_FAILURES:
                key = (answer.failure, 0, "", "")
                known = self._failures.get(key)
            if known is None:
                self._failures[key] = FailureCount(*_fields(key), example=answer.detail)
                return
        self._failures[key] = msgspec.structs.replace(known, count=known.count + 1)

    def _keep(self, row: RequestRow) -> None:
        """Reservoir sampling (Vitter 1985, algorithm R)."""
        self._seen += 1
        if len(self._rows) < self._most_rows:
            self._rows.append(row)
        elif (place := self._rng.randrange(self._seen)) < self._most_rows:
            self._rows[place] = row


def _fields(key: FailureKey) -> tuple[str, int, int, str, str]:
    name, status, code, tier = key
    return name, 1, status, code, tier


def _tokens_of(request: FinishedRequest) -> float:
    """That came. Of an answer that is not whole the events count: what its `usage` says may be what is wrong."""
    answer = request.answer
    return len(answer.times) if answer.failure else answer.output_tokens


def _add_tokens(delivered: DeliveredCounts, tokens: float, *, good: bool) -> None:
    delivered.tokens += tokens
    delivered.good_tokens += tokens if good else 0.0


def _add_answer(delivered: DeliveredCounts, request: FinishedRequest, cost: float, *, good: bool) -> None:
    if not request.answer.failure:
        delivered.good += good
        delivered.prompt_tokens += request.answer.prompt_tokens
        delivered.cost += cost


def _count(measures: Measures, request: FinishedRequest, cost: float, *, good: bool) -> None:
    answer = request.answer
    measures.requests += 1
    measures.retries += request.attempts - 1
    measures.resumed += request.resumed
    match answer.failure:
        case "":
            measures.ok += 1
            measures.good += good
            measures.escalated += answer.escalated
            measures.degraded += answer.degraded
            measures.prompt_tokens += answer.prompt_tokens
            measures.output_tokens += answer.output_tokens
            measures.good_tokens += answer.output_tokens if good else 0
            measures.cost += cost
        case failures.LEFT:
            measures.left += 1
        case failures.SHED:
            measures.shed += 1
        case _:
            measures.failed += 1


def merge_tallies(tallies: Iterable[WorkerTally], rows: int, seed: str) -> WorkerTally:
    """One tally as if a single worker had counted everything. `rows`: to keep at most."""
    whole = WorkerTally()
    groups: dict[Labels, Measures] = {}
    tallies = list(tallies)
    for tally in tallies:
        for labels, measures in tally.groups:
            groups.setdefault(labels, Measures()).merge(measures)
        for index, window in tally.windows.items():
            whole.windows.setdefault(index, RunWindow(begins_s=window.begins_s)).merge(window)
        whole.lag.merge(tally.lag)
        whole.rows += tally.rows
        whole.requests += tally.requests
        whole.server = whole.server or tally.server
        whole.faults += [each for each in tally.faults if each not in whole.faults]
    whole.groups = list(groups.items())
    whole.failures = merged_failures(each for tally in tallies for each in tally.failures)
    whole.rows = sampled(whole.rows, rows, seed)
    return whole


def merged_failures(failures: Iterable[FailureCount]) -> list[FailureCount]:
    """Those of a kind together, the most first."""
    found: dict[FailureKey, FailureCount] = {}
    for each in failures:
        key = (each.name, each.status, each.code, each.tier)
        known = found.get(key)
        count = each.count + (known.count if known is not None else 0)
        found[key] = msgspec.structs.replace(known or each, count=count)
    return sorted(found.values(), key=lambda each: -each.count)


def sampled(rows: list[RequestRow], most: int, seed: str) -> list[RequestRow]:
    """An even sample, in the order of the schedule."""
    if len(rows) > most:
        rows = Random(seed).sample(rows, most)  # noqa: S311  (no secret)
    return sorted(rows, key=lambda row: (row.intended_s, row.number, row.turn))


def window_width(duration_s: float) -> float:
    """One second, or more in runs of more than an hour."""
    return float(max(1, math.ceil(duration_s / 3600)))
