"""A comparison as a text table: a row for each measure, a column for each policy, and one for their difference."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from gateway.simulation.report import Comparison, RouteReport, SimulationReport, TenantReport, TierReport


class TableRow(msgspec.Struct, frozen=True):
    """One measure."""

    name: str
    cells: tuple[str, ...]
    difference: str = ""
    """Change from the first report to the second: of a share in percentage points, else in percent; "" for none."""


def table(comparison: Comparison) -> str:
    """A Markdown table, below a line with the trace and the profile and the notes."""
    reports = comparison.reports
    lines = [circumstances(comparison), *[f"  assumed: {note}" for note in comparison.notes], ""]
    rows = [TableRow("", tuple([each.policy for each in reports]), "difference"), *rows_of(reports)]
    texts = [(row.name, [*row.cells, row.difference] if len(reports) == 2 else list(row.cells)) for row in rows]
    widths = [max(len(each[1][column]) for each in texts) for column in range(len(texts[0][1]))]
    first = max(len(name) for name, _ in texts)
    for index, (name, row) in enumerate(texts):
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {name.ljust(first)} | {' | '.join(padded)} |")
        if not index:
            lines.append(f"| {'-' * first} | {' | '.join('-' * (width - 1) + ':' for width in widths)} |")
    return "\n".join(lines)


def circumstances(comparison: Comparison) -> str:
    """One line that names the trace, the profile and the seed."""
    speed = f"; arrivals {comparison.speed:g} times as fast" if comparison.speed != 1 else ""
    return (
        f"{comparison.trace_requests} requests over {comparison.trace_seconds:.0f} s of {comparison.trace}; "
        f"step costs of {comparison.profile}; seed {comparison.seed}{speed}"
    )


def rows_of(reports: Sequence[SimulationReport]) -> list[TableRow]:
    """All measures: in total, then by tier, tenant and route, requests shed, and engines."""
    return [*_whole(reports), *_parts(reports), *_sheds(reports), *_engines(reports)]


def _whole(reports: Sequence[SimulationReport]) -> Iterator[TableRow]:
    shares = [report.answered / report.requests for report in reports]
    yield _share("answered", shares, list(map(_answered, reports)))
    yield _share("goodput (answered within the SLO)", [report.goodput for report in reports])
    for rung in _names([report.rungs for report in reports]):
        yield _share(f"answered by {rung}", [report.rungs.get(rung, 0.0) for report in reports])
    for mark in _names([report.marked for report in reports]):
        yield _share(f"answered, marked {mark}", [report.marked.get(mark, 0.0) for report in reports])
    yield _share("escalated", [report.escalated for report in reports])
    yield _amount("cost", [report.cost for report in reports], _number)
    yield _amount("cost of 1000 answers", [report.cost_per_1000 for report in reports], _number)
    for word, quantiles, places in (
        ("TTFT", [report.ttft_s for report in reports], ("p50", "p90", "p99")),
        ("ITL", [report.itl_s for report in reports], ("p50", "p90", "p99")),
        ("queue wait", [report.queue_wait_s for report in reports], ("p50", "p99")),
    ):
        for place in places:
            yield _amount(f"{word} {place}", [getattr(each, place) for each in quantiles], _time)
    yield _amount("fairness between tenants (Jain)", [report.fairness for report in reports], _number)


def _parts(reports: Sequence[SimulationReport]) -> Iterator[TableRow]:
    for name in _names([report.tiers for report in reports]):
        tiers = [report.tiers.get(name) for report in reports]
        yield _share(
            f"tier {name}: goodput", [each.goodput if each else None for each in tiers], list(map(_tier, tiers))
        )
        yield _amount(f"tier {name}: TTFT p90", [each.ttft_s.p90 if each else None for each in tiers], _time)
    for kind in ("tenant", "route"):
        every: list[Mapping[str, TenantReport | RouteReport]] = [getattr(report, f"{kind}s") for report in reports]
        for name in _names(every):
            parts = [each.get(name) for each in every]
            shares = [part.answered / part.requests if part else None for part in parts]
            yield _share(f"{kind} {name}: answered", shares, list(map(_answered, parts)))
            yield _amount(f"{kind} {name}: cost", [part.cost if part else None for part in parts], _number)


def _sheds(reports: Sequence[SimulationReport]) -> Iterator[TableRow]:
    for tier, reason in sorted({(shed.tier, shed.reason) for report in reports for shed in report.sheds}):
        counts = [
            sum(shed.requests for shed in report.sheds if (shed.tier, shed.reason) == (tier, reason))
            for report in reports
        ]
        shares = [count / report.requests for count, report in zip(counts, reports, strict=True)]
        cells = [f"{count} ({_percent(share)})" for count, share in zip(counts, shares, strict=True)]
        yield _share(f"shed in {tier}: {reason}", shares, cells)


def _engines(reports: Sequence[SimulationReport]) -> Iterator[TableRow]:
    for name in _names([report.engines for report in reports]):
        engines = [report.engines.get(name) for report in reports]
        busy = [f"{_percent(engine.busy)}, {_percent(engine.most_kv_usage)}" if engine else "-" for engine in engines]
        hits = [f"{_percent(engine.prefix_hits)}, {engine.preemptions}" if engine else "-" for engine in engines]
        yield TableRow(f"{name}: busy, KV at most", tuple(busy))
        yield TableRow(f"{name}: prefix hits, preemptions", tuple(hits))


def _share(name: str, values: Sequence[float | None], cells: Sequence[str] = ()) -> TableRow:
    shown = cells or [_percent(value) for value in values]
    difference = ""
    if len(values) == 2 and values[0] is not None and values[1] is not None:
        difference = f"{100 * (values[1] - values[0]):+.1f} points"
    return TableRow(name, tuple(shown), difference)


def _amount(name: str, values: Sequence[float | None], show: Callable[[float | None], str]) -> TableRow:
    difference = ""
    if len(values) == 2 and values[0] and values[1] is not None:
        difference = f"{100 * (values[1] / values[0] - 1):+.1f} %"
    return TableRow(name, tuple(map(show, values)), difference)


def _names(members: Sequence[Mapping[str, object]]) -> list[str]:
    return sorted(set().union(*members))


def _answered(part: SimulationReport | TenantReport | RouteReport | None) -> str:
    return "-" if part is None else f"{part.answered} of {part.requests} ({_percent(part.answered / part.requests)})"


def _tier(tier: TierReport | None) -> str:
    if tier is None:
        return "-"
    return f"{_percent(tier.goodput)} (TTFT {_time(tier.slo_ttft_s)}, ITL {_time(tier.slo_itl_s)})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
