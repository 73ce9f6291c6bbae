"""Judges a run: are its figures the server's, or those of the load tester? Pure."""

from loadtests.model.run_record import GROUPS, GeneratorLag, Latencies, Measures, RunVerdict
from loadtests.model.scenario import LagBound
from loadtests.running.finished_request import Labels


def totals_of(groups: list[tuple[Labels, Measures]]) -> Measures:
    """All groups as one."""
    whole = Measures()
    for _, measures in groups:
        whole.merge(measures)
    return whole


def grouped(groups: list[tuple[Labels, Measures]]) -> dict[str, dict[str, Measures]]:
    """By each of `GROUPS`, then by name; a grouping with a single empty name is left out."""
    found: dict[str, dict[str, Measures]] = {}
    for place, name in enumerate(GROUPS):
        table: dict[str, Measures] = {}
        for labels, measures in groups:
            table.setdefault(labels[place], Measures()).merge(measures)
        if set(table) - {""}:
            found[name] = table
    return found


def fairness(by_tenant: dict[str, Measures]) -> float | None:
    """Jain's index of the tenants' output tokens (Jain, Chiu & Hawe 1984); None: fewer than two tenants."""
    amounts = [measures.output_tokens for measures in by_tenant.values()]
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if len(amounts) > 1 and squares else None


def judge(
    bound: LagBound, lag: GeneratorLag, latencies: Latencies, faults: list[str], *, cut_short: bool
) -> RunVerdict:
    """`faults`: what went wrong on this side, in words."""
    reasons = list(faults)
    warnings: list[str] = []
    limit, which = float(bound.p99), "the bound"
    if latencies.ttft.count:
        median = latencies.ttft.percentile(50)
        if bound.share_of_ttft * median < limit:
            limit = bound.share_of_ttft * median
            which = f"{bound.share_of_ttft:.0%} of the median TTFT of {_ms(median)}"
    for histogram, what in ((lag.sending, "sends"), (lag.reading, "reads")):
        p99 = histogram.percentile(99)
        if p99 > limit:
            reasons.append(
                f"the load tester itself was late: its {what} by {_ms(p99)} at the 99th percentile, and {which} is"
                f" {_ms(limit)}; use a lower rate, more --workers, or a quieter machine"
            )
    if not lag.by_kernel:
        warnings.append("this system does not tell when bytes arrived: the lag of reading is that of the event loop")
    return RunVerdict(not reasons, tuple(reasons), cut_short, tuple(warnings))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
