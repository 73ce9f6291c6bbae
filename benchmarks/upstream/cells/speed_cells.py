"""Cells at full speed: whole answers a second, events a second, and the latency that a gateway adds."""

from benchmarks.upstream.figures import Faults, Figure, Sizes, percentile
from benchmarks.upstream.load.client import Fleet, Totals
from benchmarks.upstream.load.exchange import Plan
from benchmarks.upstream.stand import CellFailedError, Stand, Window

_LATENCY_S = 60.0


def whole_answers(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Answers that are not streamed, on connections that ask again at once."""
    plan = Plan(sizes.whole_tokens, stream=False)
    figures, faults = [], Faults()
    for connections in sizes.whole_connections:
        it, _ = _at_full_speed(stand, sizes, plan, connections, faults)
        figures.append(
            Figure(f"whole answers, {_plural(connections, 'connection')}", "1/s", it.answers / it.seconds, "more")
        )
        if connections == sizes.cpu_at:
            figures.append(Figure("CPU a whole answer", "ms", 1000 * it.cpu_s / it.answers))
        figures.append(
            Figure(f"load process busy, {_plural(connections, 'connection')}", "%", 100 * it.load_busy, "none")
        )
    return figures + faults.figures()


def streams(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Streams whose events are sent as fast as the load process can; the next begins at once."""
    plan = Plan(sizes.stream_events)
    figures, faults = [], Faults()
    for count in sizes.streams:
        it, totals = _at_full_speed(stand, sizes, plan, count, faults)
        figures.append(Figure(f"events, {_plural(count, 'stream')}", "1/s", it.pieces / it.seconds, "more"))
        if count == sizes.cpu_at:
            figures.append(Figure("CPU an event", "µs", 1e6 * it.cpu_s / it.pieces))
            if totals.answers:
                lines = totals.events / totals.answers
                figures.append(Figure(f"data: lines a stream of {sizes.stream_events}", "", lines, "none"))
        figures.append(Figure(f"load process busy, {_plural(count, 'stream')}", "%", 100 * it.load_busy, "none"))
        stand.settle()
    return figures + faults.figures()


def _at_full_speed(stand: Stand, sizes: Sizes, plan: Plan, count: int, faults: Faults) -> tuple[Window, Totals]:
    """One span of that many connections that ask again at once; and all that they got, warm-up and end included."""
    with stand.fleet(plan, count) as fleet:
        fleet.ask_all()
        stand.load.run(sizes.warm_s)
        window = stand.window(fleet, sizes.seconds)
        drain(stand, fleet, sizes, faults)
        return window, fleet.totals


def added_latency(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Whole answers of one token, one after the other, minus the same without a gateway, before and after."""
    faults = Faults()
    direct = stand.direct()
    half = sizes.latency_requests // 2
    base = _latencies(direct, half, faults)
    through = _latencies(stand, sizes.latency_requests, faults)
    base += _latencies(direct, half, faults)
    figures = []
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        without = percentile(base, share)
        figures.append(Figure(f"added latency {name}", "ms", 1000 * (percentile(through, share) - without)))
        figures.append(Figure(f"latency without a gateway {name}", "ms", 1000 * without, "none"))
    return figures + faults.figures()


def warm_up(stand: Stand, sizes: Sizes) -> None:
    """Some of everything, so that no cell pays for what is done once. Raises `CellFailedError`."""
    for stream in (False, True):
        with stand.fleet(Plan(sizes.stream_events, stream=stream), 8) as fleet:
            fleet.ask_all()
            stand.window(fleet, 2 * sizes.warm_s)
            drain(stand, fleet, sizes, Faults())
        stand.settle()


def drain(stand: Stand, fleet: Fleet, sizes: Sizes, faults: Faults) -> None:
    """Let answers that have begun end, and count what is missing in them. Raises `CellFailedError`."""
    fleet.repeating = False
    stand.load.run(sizes.drain_s, fleet.idle)
    totals = fleet.totals
    faults.lost += totals.lost
    faults.failed += totals.failed
    faults.retried += totals.retried
    faults.unfinished += len(fleet.running)
    stand.check(fleet)


def _latencies(stand: Stand, count: int, faults: Faults) -> list[float]:
    with stand.fleet(Plan(1, stream=False), 1) as fleet:
        fleet.ask_all()
        stand.load.run(_LATENCY_S, lambda: fleet.totals.answers >= count or not fleet.running)
        stand.check(fleet)
        if not fleet.totals.answers:
            raise CellFailedError(f"no answer within {_LATENCY_S:.0f} s")
        faults.failed += fleet.totals.failed
        faults.lost += fleet.totals.lost
        return fleet.latency_s.tolist()


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
