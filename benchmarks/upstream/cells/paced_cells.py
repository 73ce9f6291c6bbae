"""Cells with paced streams: as a model sends them, so many events a second each."""

import math
from array import array

import msgspec
import numpy as np

from benchmarks.upstream.cells.speed_cells import drain
from benchmarks.upstream.figures import Faults, Figure, Sizes, percentile
from benchmarks.upstream.load.client import Fleet
from benchmarks.upstream.load.exchange import Exchange, Plan
from benchmarks.upstream.stand import CellFailedError, Stand, Window

_STAGGER_S = 1.0
_LEAD_S = 0.5
"""Streams that begin together run for this long before they are measured."""
_DELIVERED = 0.97
"""Share of the events of a span that must arrive within it, if streams are held and not only buffered."""
_SEARCH_STEPS = 4
_SETTLES = 6
"""Waits for the streams of one trial to be over before the next trial."""


class Paced(msgspec.Struct, frozen=True):
    """What paced streams showed."""

    window: Window
    sent: int
    """Events that the upstream sent within the window."""
    gap_p99_s: float
    """Of the gap between two pieces at the client minus the same gap at the upstream."""
    delay_p99_s: float
    """From the upstream to the client."""
    late_p99_s: float
    """How late the load process sent an event: if it is much, the load process is the limit."""
    ttft_s: list[float]
    lines: float
    """`data:` lines a stream."""
    events: int
    """Pieces a stream."""


def paced(stand: Stand, streams: int, sizes: Sizes, faults: Faults, *, seconds: float, over_s: float) -> Paced:
    """Streams that begin together, or evenly over some time, and then run for `seconds`."""
    load = stand.load
    lead_s = over_s or min(_LEAD_S, seconds)
    events = math.ceil((lead_s + seconds) * sizes.rate_hz)
    with stand.fleet(Plan(events, interval_s=1 / sizes.rate_hz), streams) as fleet:
        fleet.repeating = False
        fleet.ask_all(over_s)
        load.run(lead_s)
        load.forget_lateness()
        begin = load.now
        window = stand.window(fleet, seconds)
        end = load.now
        late_s = percentile(load.lateness_s, 0.99)
        drain(stand, fleet, sizes, faults)
        exchanges = _exchanges(fleet)
        gaps, delays = _added(exchanges, begin, end)
        return Paced(
            window,
            sum(_within(exchange.sent, begin, end) for exchange in exchanges),
            _p99(gaps),
            _p99(delays),
            late_s,
            fleet.ttft_s.tolist(),
            fleet.totals.events / fleet.totals.answers if fleet.totals.answers else 0.0,
            events,
        )


def pace(stand: Stand, sizes: Sizes) -> list[Figure]:
    """CPU of an event, and times to the first one, for streams that begin together and for staggered ones."""
    faults = Faults()
    figures = []
    for name, over_s in (("together", 0.0), ("staggered", _STAGGER_S)):
        it = paced(stand, sizes.paced, sizes, faults, seconds=sizes.seconds, over_s=over_s)
        if not over_s:
            figures.append(Figure("CPU an event, paced", "µs", 1e6 * it.window.cpu_s / it.window.pieces))
            figures.append(Figure("data: lines an event, paced", "", it.lines / it.events, "none"))
        for share in (0.5, 0.99):
            text = f"TTFT p{100 * share:.0f}, {name}"
            figures.append(Figure(text, "ms", 1000 * percentile(it.ttft_s, share)))
        stand.settle()
    return figures + faults.figures()


def many(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Many streams on one core."""
    faults = Faults()
    it = paced(stand, sizes.many, sizes, faults, seconds=sizes.seconds, over_s=_STAGGER_S)
    rate = it.window.pieces / it.window.seconds
    return [
        Figure("events delivered", "1/s", rate, "more"),
        Figure("CPU an event", "µs", 1e6 * it.window.cpu_s / it.window.pieces),
        Figure("added gap p99", "ms", 1000 * it.gap_p99_s),
        Figure("delay of an event p99", "ms", 1000 * it.delay_p99_s),
        Figure("load process late p99", "ms", 1000 * it.late_p99_s, "none"),
        *faults.figures(),
    ]


def most_streams(stand: Stand, sizes: Sizes) -> list[Figure]:
    """How many streams one core holds with a bounded added gap: doubling, then halving the interval."""
    late_s = 0.0

    def holds(streams: int) -> bool:
        nonlocal late_s
        faults = Faults()
        try:
            it = paced(stand, streams, sizes, faults, seconds=sizes.search_s, over_s=_STAGGER_S)
        except CellFailedError:
            if stand.ended:
                raise
            return False
        finally:
            for _ in range(_SETTLES):
                if stand.settle():
                    break
        whole = not (faults.lost or faults.failed or faults.unfinished)
        held = whole and it.gap_p99_s <= sizes.most_gap_s and it.window.pieces >= _DELIVERED * it.sent
        if not held:
            late_s = it.late_p99_s
        return held

    low, high = 0, 0
    tried = sizes.search_from
    while tried <= sizes.search_most:
        if not holds(tried):
            high = tried
            break
        low, tried = tried, 2 * tried
    for _ in range(_SEARCH_STEPS if high else 0):
        middle = (low + high) // 2
        if not middle or high - low <= max(1, high // 16):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return [
        Figure("streams that one core holds", "", low, "more"),
        Figure("tried and not held", "", high, "none"),
        Figure("load process late p99 where not held", "ms", 1000 * late_s, "none"),
    ]


def long_prompts(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Whole answers to long prompts, and what they do to small paced streams meanwhile."""
    faults = Faults()
    load = stand.load
    events = math.ceil((_STAGGER_S + sizes.warm_s + sizes.seconds) * sizes.rate_hz)
    small = Plan(events, interval_s=1 / sizes.rate_hz)
    with (
        stand.fleet(small, sizes.long_beside) as beside,
        stand.fleet(Plan(1, stream=False, prompt_bytes=sizes.prompt_bytes), sizes.long_connections) as long,
    ):
        beside.repeating = False
        beside.ask_all(_STAGGER_S)
        load.run(_STAGGER_S)
        long.ask_all()
        load.run(sizes.warm_s)
        begin = load.now
        it = stand.window(long, sizes.seconds)
        end = load.now
        drain(stand, long, sizes, faults)
        drain(stand, beside, sizes, faults)
        gaps, _ = _added(_exchanges(beside), begin, end)
    return [
        Figure("long prompts", "1/s", it.answers / it.seconds, "more"),
        Figure("CPU a long prompt", "ms", 1000 * it.cpu_s / it.answers),
        Figure("added gap p99 of streams meanwhile", "ms", 1000 * _p99(gaps)),
        *faults.figures(),
    ]


def _exchanges(fleet: Fleet) -> list[Exchange]:
    """All that the upstream was asked once, ended or not."""
    return [exchange for exchange in (*fleet.ended, *fleet.running) if exchange.calls == 1]


def _added(exchanges: list[Exchange], begin: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Added gaps and delays, in seconds, of the events that were sent in this span and have arrived."""
    gaps, delays = [np.zeros(0)], [np.zeros(0)]
    for exchange in exchanges:
        count = min(len(exchange.sent), len(exchange.arrived))
        sent = np.array(exchange.sent[:count])
        arrived = np.array(exchange.arrived[:count])
        within = (sent >= begin) & (sent < end)
        delays.append((arrived - sent)[within])
        gaps.append((np.diff(arrived) - np.diff(sent))[within[1:]])
    return np.concatenate(gaps), np.concatenate(delays)


def _within(times: "array[float]", begin: float, end: float) -> int:
    values = np.array(times)
    return int(((values >= begin) & (values < end)).sum())


def _p99(values: np.ndarray) -> float:
    return float(np.quantile(values, 0.99)) if len(values) else 0.0
