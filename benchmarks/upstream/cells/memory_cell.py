"""Resident memory: its growth over many requests, and at many open streams, of a gateway that was just started."""

from benchmarks.upstream.figures import Faults, Figure, Sizes
from benchmarks.upstream.load.exchange import Plan
from benchmarks.upstream.stand import Stand

_MB = 1e6
_CONNECTIONS = 32
_IDLE_INTERVAL_S = 2.0
_IDLE_EVENTS = 100_000
_OPENING_S = 30.0
_WATCHED_S = 3.0


def memory(stand: Stand, sizes: Sizes) -> list[Figure]:
    """Whole requests, then streams with an event now and then."""
    faults = Faults()
    with stand.fleet(Plan(sizes.whole_tokens, stream=False), _CONNECTIONS) as fleet:
        totals = fleet.totals
        fleet.ask_all()
        stand.load.run(sizes.memory_s, lambda: totals.answers >= sizes.memory_warm_requests)
        warm, before = totals.answers, stand.resident_bytes()
        wanted = warm + sizes.memory_requests
        stand.load.run(sizes.memory_s, lambda: totals.answers >= wanted or totals.failed > _CONNECTIONS)
        after, asked = stand.resident_bytes(), totals.answers - warm
        stand.check(fleet)
        faults.lost += totals.lost
        faults.failed += totals.failed
    stand.settle()
    with stand.fleet(Plan(_IDLE_EVENTS, interval_s=_IDLE_INTERVAL_S), sizes.idle_streams) as fleet:
        fleet.repeating = False
        fleet.ask_all(over_s=1.0)
        totals = fleet.totals
        stand.load.run(_OPENING_S, lambda: totals.pieces >= sizes.idle_streams)
        stand.load.run(min(_WATCHED_S, sizes.seconds))
        opened = stand.resident_bytes()
        stand.check(fleet)
        begun = sum(client.exchange is not None and client.exchange.first_at > 0 for client in fleet.clients)
        faults.failed += totals.failed
        faults.unfinished += sizes.idle_streams - begun - totals.failed
    return [
        Figure("resident after a warm-up", "MB", before / _MB),
        Figure("growth over whole requests", "%", 100 * (after - before) / before, "none"),
        Figure("whole requests of that", "", asked, "none"),
        Figure(f"resident at {sizes.idle_streams} open streams", "MB", opened / _MB),
        *faults.figures(),
    ]
