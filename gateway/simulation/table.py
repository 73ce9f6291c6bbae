"""A comparison as text: the measures down, the policies across."""

from collections.abc import Callable, Sequence

from gateway.simulation.report import Comparison, Report

_Cell = Callable[[Report], str]


def table(comparison: Comparison) -> str:
    """Lines of a Markdown table under one line of circumstances."""
    reports = comparison.reports
    rows = [("", [each.policy for each in reports])]
    rows += cells(reports)
    widths = [max(len(each[1][column]) for each in rows) for column in range(len(reports))]
    first = max(len(name) for name, _ in rows)
    lines = [circumstances(comparison), *[f"  assumed: {note}" for note in comparison.notes], ""]
    for index, (name, row) in enumerate(rows):
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"| {name.ljust(first)} | {' | '.join(padded)} |")
        if not index:
            lines.append(f"| {'-' * first} | {' | '.join('-' * (width - 1) + ':' for width in widths)} |")
    return "\n".join(lines)


def circumstances(comparison: Comparison) -> str:
    """Which trace, with which costs."""
    speed = f"; arrivals {comparison.speed:g} times as fast" if comparison.speed != 1 else ""
    return (
        f"{comparison.trace_requests} requests over {comparison.trace_seconds:.0f} s of {comparison.trace}; "
        f"step costs of {comparison.profile}; seed {comparison.seed}{speed}"
    )


def cells(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    """The measures by name, with one text for each report."""
    return [(name, [cell(each) for each in reports]) for name, cell in _rows(reports)]


def _rows(reports: Sequence[Report]) -> list[tuple[str, _Cell]]:
    rows: list[tuple[str, _Cell]] = [
        ("answered", lambda r: f"{r.answered} of {r.requests} ({_percent(r.answered / r.requests)})"),
        ("goodput (answered within the SLO)", lambda r: _percent(r.goodput)),
    ]
    for rung in sorted({rung for report in reports for rung in report.rungs}):
        rows.append((f"answered by {rung}", lambda r, rung=rung: _percent(r.rungs.get(rung, 0.0))))  # type: ignore[misc]
    rows += [
        ("escalated", lambda r: _percent(r.escalated)),
        ("cost", lambda r: f"{r.cost:.4g}"),
        ("cost of 1000 answers", lambda r: f"{r.cost_per_1000:.4g}"),
        ("TTFT p50 / p90 / p99", lambda r: " / ".join(map(_time, (r.ttft_s.p50, r.ttft_s.p90, r.ttft_s.p99)))),
        ("ITL p50 / p90 / p99", lambda r: " / ".join(map(_time, (r.itl_s.p50, r.itl_s.p90, r.itl_s.p99)))),
        ("queue wait p50 / p99", lambda r: " / ".join(map(_time, (r.queue_wait_s.p50, r.queue_wait_s.p99)))),
        ("fairness between tenants (Jain)", lambda r: f"{r.fairness:.3f}"),
    ]
    for tier in sorted({tier for report in reports for tier in report.tiers}):
        rows.append((f"goodput of tier {tier}", lambda r, tier=tier: _tier_goodput(r, tier)))  # type: ignore[misc]
    for key in sorted({(shed.tier, shed.reason) for report in reports for shed in report.sheds}):
        rows.append((f"shed in {key[0]}: {key[1]}", lambda r, key=key: _shed(r, key)))  # type: ignore[misc]
    for name in sorted({name for report in reports for name in report.engines}):
        rows += [
            (f"{name}: busy, KV at most", lambda r, name=name: _engine(r, name)),  # type: ignore[misc]
            (f"{name}: prefix hits, preemptions", lambda r, name=name: _cache(r, name)),  # type: ignore[misc]
        ]
    return rows


def _tier_goodput(report: Report, tier: str) -> str:
    found = report.tiers.get(tier)
    if found is None:
        return "-"
    return f"{_percent(found.goodput)} (TTFT {_time(found.slo_ttft_s)}, ITL {_time(found.slo_itl_s)})"


def _shed(report: Report, key: tuple[str, str]) -> str:
    count = sum(shed.requests for shed in report.sheds if (shed.tier, shed.reason) == key)
    return f"{count} ({_percent(count / report.requests)})"


def _engine(report: Report, name: str) -> str:
    found = report.engines.get(name)
    return "-" if found is None else f"{_percent(found.busy)}, {_percent(found.most_kv_usage)}"


def _cache(report: Report, name: str) -> str:
    found = report.engines.get(name)
    return "-" if found is None else f"{_percent(found.prefix_hits)}, {found.preemptions}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
