"""The report of one run as a page: is it valid, what was measured, and when what happened."""

from collections.abc import Sequence

from loadtests.faults.recovery import RULE
from loadtests.model.latency_histogram import LatencyHistogram
from loadtests.model.run_record import Measures, RunHost, RunRecord
from loadtests.model.scenario import Scenario, SloSettings
from loadtests.report.distribution import distribution
from loadtests.report.document import document, figure, section, table, tiles, verdict_box
from loadtests.report.plot import PlotBand
from loadtests.report.timeline import lag_timeline, timeline
from loadtests.report.words import milliseconds, number, percent, plain, seconds

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_TIMES = (
    ("Time to the first token (TTFT)", (("response time", "ttft"), ("service time", "ttft_service"))),
    ("Inter-token latency (ITL)", (("every gap", "itl"),)),
    ("Time per output token (TPOT)", (("of each answer", "tpot"),)),
    ("End to end (E2E)", (("response time", "e2e"), ("service time", "e2e_service"))),
)
_ROWS = (
    ("TTFT", "ttft"),
    ("TTFT, service time", "ttft_service"),
    ("ITL", "itl"),
    ("TPOT", "tpot"),
    ("E2E", "e2e"),
    ("E2E, service time", "e2e_service"),
    ("wait for a place", "place"),
    ("queue, as the server says", "queue"),
    ("opening a connection", "connect"),
)
_GROUPS = (
    "requests",
    "whole",
    "good",
    "shed",
    "failed",
    "left",
    "tokens/s",
    "TTFT p50",
    "TTFT p99",
    "ITL p99",
    "E2E p99",
)
_MOST = 40


def run_page(record: RunRecord) -> str:
    """The HTML document."""
    header = record.header
    name = header.scenario.name or "Load test"
    parts = [
        f"<h1>{plain(name)}</h1>",
        f"<p>{plain(_about(record))}</p>",
        verdict_of(record),
        totals_tiles(record.totals, header.measured_s),
        latency_section(record.totals),
        section(
            "Over time",
            "The warm-up is shaded first; faults are shaded and named.",
            *timeline(record, bands_of(record)),
        ),
        _faults(record),
        *_groups(record),
        _failures(record),
        _lag(record),
        section("How it was run", "", table(_circumstances(record), text_columns=(1,))),
    ]
    return document(f"{name}: load test", parts)


def verdict_of(record: RunRecord) -> str:
    """Whether the figures are the server's, before any of them."""
    verdict, totals = record.verdict, record.totals
    if not verdict.valid:
        return verdict_box(
            "bad", "Not valid: these figures are not the server's", [*verdict.reasons, *verdict.warnings]
        )
    if verdict.cut_short:
        return verdict_box("warn", "Valid, but cut short: the run was ended before its time", verdict.warnings)
    if not totals.ok + totals.left:
        return verdict_box("bad", "No request was answered", verdict.warnings)
    if verdict.warnings or totals.failed:
        failed = [f"{totals.failed} of {totals.requests} requests failed"] if totals.failed else []
        return verdict_box("warn", "Valid, with something to look at", [*failed, *verdict.warnings])
    return verdict_box("", "Valid: the load tester kept its times")


def totals_tiles(totals: Measures, measured_s: float) -> str:
    """The totals, large."""
    span = measured_s or 1.0
    came = totals.delivered
    values = [
        ("requests", f"{totals.requests:,}"),
        ("rate", f"{number(totals.requests / span)}/s"),
        ("goodput", f"{number(came.good / span)}/s"),
        ("good", percent(totals.good_share)),
        ("shed", f"{totals.shed:,}"),
        ("failed", f"{totals.failed:,}"),
        ("tokens out", f"{number(came.tokens / span)}/s"),
        ("good tokens", f"{number(came.good_tokens / span)}/s"),
    ]
    if totals.cost:
        values.append(("cost", number(totals.cost)))
        for word, cost in (("a million tokens", totals.token_cost), ("a million good tokens", totals.good_token_cost)):
            values += [(word, number(cost))] if cost is not None else []
    for word, value in (("left on purpose", totals.left), ("retries", totals.retries), ("resumed", totals.resumed)):
        values += [(word, f"{value:,}")] if value else []
    for word, value in (("escalated", totals.escalated), ("degraded", totals.degraded)):
        values += [(word, percent(value / max(totals.ok, 1)))] if value else []
    return tiles(values)


def latency_section(totals: Measures) -> str:
    """Distributions and a table."""
    figures = []
    for title, lines in _TIMES:
        found = [(name, place, _times(totals, field)) for place, (name, field) in enumerate(lines)]
        figures.append(figure(title, distribution(found)))
    rows = [("ms", "count", "mean", *[f"p{each:g}" for each in _PERCENTILES], "most")]
    for name, field in _ROWS:
        histogram = _times(totals, field)
        if histogram.count:
            cells = [_interval(histogram, each) for each in _PERCENTILES]
            rows.append(
                (name, f"{histogram.count:,}", milliseconds(histogram.mean), *cells, milliseconds(histogram.max_s))
            )
    return section(
        "Latencies of whole answers",
        "Response time is from the intended time, service time from the moment of sending. In brackets: where the "
        "percentile would lie with 95 % if requests were independent; those that share a queue scatter more. “?” means "
        "that there are too few requests to say.",
        f'<div class="pair">{"".join(figures)}</div>',
        table(rows),
    )


def bands_of(record: RunRecord) -> list[PlotBand]:
    """The run's faults, to be shaded."""
    return [PlotBand(f"{fault.name}: {fault.outcome}", fault.begin_s, fault.end_s) for fault in record.faults]


def _faults(record: RunRecord) -> str:
    return section("Faults", RULE, table(fault_rows(record), text_columns=(6,))) if record.faults else ""


def fault_rows(record: RunRecord) -> list[tuple[str, ...]]:
    """A header and a row for each fault, as text."""
    rows: list[tuple[str, ...]] = [("fault", "begins", "ends", "good before", "worst second", "recovered after", "")]
    for fault in record.faults:
        before = "–" if fault.share_before is None else percent(fault.share_before)
        worst = "–" if fault.share_worst is None else percent(fault.share_worst)
        if fault.recovered_after_s is not None:
            recovered = f"{fault.recovered_after_s:.3g} s"
        elif fault.share_before is None:
            recovered = "cannot be told"
        else:
            recovered = "not before the end" if fault.had_effect else "no effect seen"
        outcome = "" if fault.outcome == "done" else fault.outcome
        rows.append((fault.name, f"{fault.begin_s:.2f} s", f"{fault.end_s:.2f} s", before, worst, recovered, outcome))
    return rows


def _groups(record: RunRecord) -> list[str]:
    found = []
    for grouping, groups in record.groups.items():
        if len(groups) > 1 or grouping in {"tier", "tenant"}:
            note = ""
            if grouping == "tenant" and record.fairness is not None:
                note = f"Fairness between tenants (Jain's index of their output tokens): {record.fairness:.3f}."
            names = sorted(groups)[:_MOST]
            rows: list[tuple[str, ...]] = [("", *_GROUPS)]
            rows += [_group_row(name or "–", groups[name], record.header.measured_s) for name in names]
            if record.totals.cost:
                rows = [(*row, cost) for row, cost in zip(rows, ["cost", *_costs(groups, names)], strict=True)]
            found.append(section(f"By {grouping}", note, table(rows)))
    return found


def _costs(groups: dict[str, Measures], names: Sequence[str]) -> list[str]:
    return [number(groups[name].cost) for name in names]


def _group_row(name: str, measures: Measures, measured_s: float) -> tuple[str, ...]:
    times = measures.latencies
    counts = (measures.requests, measures.ok, measures.good, measures.shed, measures.failed, measures.left)
    latencies = ((times.ttft, 50.0), (times.ttft, 99.0), (times.itl, 99.0), (times.e2e, 99.0))
    return (
        name,
        *[f"{count:,}" for count in counts],
        number(measures.delivered.tokens / (measured_s or 1.0)),
        *[seconds(histogram.percentile(each)) if histogram.count else "–" for histogram, each in latencies],
    )


def _failures(record: RunRecord) -> str:
    if not record.failures:
        return ""
    rows = [("name", "count", "status", "code", "tier", "the first one")]
    for each in record.failures[:_MOST]:
        rows.append((each.name, f"{each.count:,}", str(each.status or ""), each.code, each.tier, each.example))
    note = "Those of the warm-up are counted, too."
    if len(record.failures) > _MOST:
        note += f" {len(record.failures) - _MOST} rarer ones are not shown."
    return section("What went wrong", note, table(rows, text_columns=(5,)))


def _lag(record: RunRecord) -> str:
    rows = [("ms", "count", "p50", "p99", "most")]
    for name, histogram in (("sending", record.lag.sending), ("reading", record.lag.reading)):
        cells = (milliseconds(histogram.percentile(50)), milliseconds(histogram.percentile(99)))
        rows.append((name, f"{histogram.count:,}", *cells, milliseconds(histogram.max_s)))
    note = (
        "How late the load tester itself was: in sending, and from the arrival of bytes to the end of their parsing. "
        "It is part of every latency above."
    )
    note += f" Its busiest worker took {percent(record.lag.busiest)} of a core."
    return section("The load tester's own lag", note, table(rows), lag_timeline(record))


def _circumstances(record: RunRecord) -> Sequence[Sequence[str]]:
    header, machine = record.header, record.header.machine
    return [
        ("", ""),
        ("server", f"{header.scenario.target.url} {header.server}".strip()),
        ("arrivals", _arrivals(header.scenario)),
        ("a request is good with", scenario_slo_words(header.scenario)),
        ("connections", connection_words(header.scenario) or "opened when a request needs one"),
        ("warm-up", header.warm_up_rule),
        ("seed", str(header.scenario.seed)),
        ("began", header.started_at),
        ("load tester", f"penstock {header.penstock}, {header.scenario.workers} worker(s), Python {machine.python}"),
        *_hosts(header.hosts),
        ("machine", f"{machine.name}: {machine.cpu}, {machine.cpus} CPUs, {machine.system}"),
    ]


def _hosts(hosts: Sequence[RunHost]) -> list[tuple[str, str]]:
    if len(hosts) < 2:
        return []
    words = []
    for host in hosts:
        clock = "not known" if host.clock_error_s is None else f"within {seconds(host.clock_error_s)}"
        words.append(f"{host.name} (part {host.part} of {host.parts}, clock {clock})")
    return [("hosts", "; ".join(words))]


def cost_words(totals: Measures) -> str:
    """Where the cost is known."""
    good = "–" if totals.good_token_cost is None else number(totals.good_token_cost)
    return (
        f"cost {number(totals.cost)}: {number(totals.token_cost or 0.0)} for a million tokens out, {good} for a million"
        " of good requests"
    )


def connection_words(scenario: Scenario) -> str:
    """Those that were opened before the run; "": none were."""
    count = scenario.target.connections
    return f"{count:,} connections were opened before the run: its first requests needed no new ones" if count else ""


def slo_words(slo: SloSettings) -> str:
    """Objectives on a line."""
    given = [
        f"{name.upper()} ≤ {seconds(float(value))}"
        for name, value in (("ttft", slo.ttft), ("itl", slo.itl), ("tpot", slo.tpot), ("e2e", slo.e2e))
        if value is not None
    ]
    return ", ".join(given) or "a whole answer"


def scenario_slo_words(scenario: Scenario) -> str:
    """Those of all tiers."""
    tiers = [f"{name}: {slo_words(slo)}" for name, slo in sorted(scenario.tier_slo.items())]
    return "; ".join([*tiers, f"others: {slo_words(scenario.slo)}" if tiers else slo_words(scenario.slo)])


def _arrivals(scenario: Scenario) -> str:
    arrivals = scenario.arrivals
    if arrivals.kind == "closed":
        return f"closed loop of {arrivals.clients} clients: a slow server is asked less"
    if arrivals.kind == "trace" and arrivals.trace is not None:
        return f"open loop, as recorded in {arrivals.trace.name}, {arrivals.speed:g} times as fast"
    rate = f"{arrivals.rate:g}/s" if arrivals.rate is not None else f"{len(arrivals.phases)} phases"
    bound = f", at most {arrivals.max_in_flight} in flight" if arrivals.max_in_flight else ""
    return f"open loop, {arrivals.kind}, {rate}{bound}"


def _about(record: RunRecord) -> str:
    header = record.header
    return f"{header.scenario.target.url}, {header.measured_s:g} s measured, {header.started_at}"


def _times(totals: Measures, field: str) -> LatencyHistogram:
    histogram: LatencyHistogram = getattr(totals.latencies, field)
    return histogram


def _interval(histogram: LatencyHistogram, percent_of: float) -> str:
    interval = histogram.interval(percent_of)
    high = "?" if interval.high is None else milliseconds(interval.high)
    return f"{milliseconds(interval.value)} [{milliseconds(interval.low)}, {high}]"
