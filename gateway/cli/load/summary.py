"""What a load test prints at its end."""

from gateway.cli.terminal import Page, number, percent
from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.model.run_record import Measures, RunRecord
from loadtests.report.run_page import connection_words, cost_words, fault_rows

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_ROWS = (
    ("TTFT", "ttft"),
    ("  from sending", "ttft_service"),
    ("ITL", "itl"),
    ("TPOT", "tpot"),
    ("E2E", "e2e"),
    ("  from sending", "e2e_service"),
    ("wait for place", "place"),
    ("server's queue", "queue"),
    ("connecting", "connect"),
)
_MOST_FAILURES = 12
_MOST_GROUPS = 20


def summary(record: RunRecord) -> Page:
    """The verdict first; then counts, latencies, groups, failures."""
    page = Page()
    verdict, totals, header = record.verdict, record.totals, record.header
    if not verdict.valid:
        page.line("NOT VALID: these figures are not the server's", style="bold red")
        for reason in verdict.reasons:
            page.line(reason, indent=2, style="red")
        page.line("")
    if verdict.cut_short:
        page.line("CUT SHORT: the run was ended before its time", style="bold yellow")
    name = header.scenario.name or "load test"
    page.line(f"{name}: {header.scenario.target.url}, {header.measured_s:g} s measured", style="bold")
    page.line(header.warm_up_rule, style="dim")
    if connections := connection_words(header.scenario):
        page.line(connections, style="dim")
    _add_counts(page, totals, header.measured_s)
    _add_latencies(page, record)
    for grouping, table in record.groups.items():
        if len(table) > 1:
            _add_groups(page, grouping, table, header.measured_s)
    if record.fairness is not None:
        page.line(f"fairness between tenants (Jain's index of output tokens): {record.fairness:.3f}")
    if record.faults:
        page.heading("faults; recovered: from its beginning, by the rule in docs/load-testing.md")
        page.table([tuple([_plain(cell) for cell in row]) for row in fault_rows(record)])
    if record.failures:
        page.heading("failures, the warm-up included")
        rows = [("name", "count", "status", "code", "tier", "first one")]
        for each in record.failures[:_MOST_FAILURES]:
            status = str(each.status or "")
            rows.append(
                (each.name, str(each.count), status, _plain(each.code), _plain(each.tier), _plain(each.example))
            )
        page.table(rows)
    _add_lag(page, record)
    return page


def _add_counts(page: Page, totals: Measures, seconds: float) -> None:
    page.heading("requests")
    page.line(
        f"{totals.requests} sent: {totals.ok} whole, {totals.good} good ({percent(totals.good_share)}),"
        f" {totals.shed} shed, {totals.failed} failed, {totals.left} left on purpose;"
        f" {totals.retries} retries, {totals.resumed} resumed",
        indent=2,
    )
    if totals.escalated or totals.degraded:
        page.line(f"{totals.escalated} of the whole answers escalated, {totals.degraded} degraded", indent=2)
    if seconds > 0:
        came = totals.delivered
        page.line(
            f"goodput {came.good / seconds:.3g} requests/s of {totals.requests / seconds:.3g} requests/s;"
            f" {came.tokens / seconds:.4g} tokens/s out, {came.prompt_tokens / seconds:.4g} tokens/s in",
            indent=2,
        )
    if totals.cost:
        page.line(cost_words(totals), indent=2)


def _add_latencies(page: Page, record: RunRecord) -> None:
    page.heading("latencies of whole answers, in ms")
    page.line(
        "from the intended time; in brackets: 95 % if requests were independent; those that share a queue scatter more",
        style="dim",
    )
    rows = [("", "mean", *[f"p{number(each)}" for each in _PERCENTILES], "most")]
    for title, name in _ROWS:
        histogram: LatencyHistogram = getattr(record.totals.latencies, name)
        if histogram.count:
            cells = [_interval(histogram, each) for each in _PERCENTILES]
            rows.append((title, _ms(histogram.mean), *cells, _ms(histogram.max_s)))
    page.table(rows if len(rows) > 1 else [*rows, ("no whole answer", *[""] * 6)])


def _add_groups(page: Page, grouping: str, table: dict[str, Measures], seconds: float) -> None:
    page.heading(f"by {grouping}")
    heads = ("", "requests", "whole", "good", "shed", "failed", "tokens/s", "TTFT p50", "TTFT p99", "ITL p99")
    rows: list[tuple[str, ...]] = [heads]
    for name in sorted(table)[:_MOST_GROUPS]:
        measures = table[name]
        latencies = measures.latencies
        rows.append(
            (
                _plain(name) or "–",
                *map(str, (measures.requests, measures.ok, measures.good, measures.shed, measures.failed)),
                f"{measures.delivered.tokens / seconds:.3g}" if seconds > 0 else "–",
                _percentile(latencies.ttft, 50),
                _percentile(latencies.ttft, 99),
                _percentile(latencies.itl, 99),
            )
        )
    page.table(rows)


def _add_lag(page: Page, record: RunRecord) -> None:
    lag = record.lag
    page.heading("the load tester's own lag, in ms")
    rows: list[tuple[str, ...]] = [("", "p50", "p99", "most")]
    for name, histogram in (("sending", lag.sending), ("reading", lag.reading)):
        most = _ms(histogram.max_s) if histogram.count else "–"
        rows.append((name, *[_percentile(histogram, each) for each in (50.0, 99.0)], most))
    page.table(rows)
    page.line(f"the busiest worker took {percent(lag.busiest)} of a core", indent=2)
    for warning in record.verdict.warnings:
        page.line(warning, indent=2, style="yellow")


def _interval(histogram: LatencyHistogram, percentile: float) -> str:
    interval = histogram.interval(percentile)
    high = "?" if interval.high is None else _ms(interval.high)
    return f"{_ms(interval.value)} [{_ms(interval.low)}, {high}]"


def _percentile(histogram: LatencyHistogram, percentile: float) -> str:
    return _ms(histogram.percentile(percentile)) if histogram.count else "–"


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _plain(text: str) -> str:
    """From the wire: without what a terminal would obey."""
    return "".join([each if each.isprintable() else "?" for each in text])
