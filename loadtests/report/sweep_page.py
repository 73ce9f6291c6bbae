"""The report of a sweep as a page: the highest rate first, then what each rate did."""

from collections.abc import Callable, Sequence

from loadtests.report.axis import PlotAxis, even_axis, log_axis
from loadtests.report.document import document, section, table, tiles, verdict_box
from loadtests.report.plot import PlotBand, PlotLine, Point, line_plot
from loadtests.report.run_page import scenario_slo_words
from loadtests.report.words import number, percent, plain, seconds
from loadtests.sweeping.sweep_record import SweepProbe, SweepRecord, TimeParts

_LATENCIES: tuple[tuple[str, int, Callable[[SweepProbe], float]], ...] = (
    ("TTFT p50", 0, lambda probe: probe.ttft_p50),
    ("TTFT p99", 1, lambda probe: probe.ttft_p99),
    ("ITL p99", 2, lambda probe: probe.itl_p99),
    ("E2E p99", 3, lambda probe: probe.e2e_p99),
)
_COST = "a million good tokens"
_PARTS = ("client", "queue", "prefill", "decode", "delivery")


def sweep_page(sweep: SweepRecord) -> str:
    """The HTML document."""
    name = sweep.scenario.name or "Load sweep"
    probes = sorted(sweep.probes, key=lambda probe: probe.rate)
    parts = [
        f"<h1>{plain(name)}</h1>",
        f"<p>{plain(f'{sweep.scenario.target.url}, {sweep.started_at}, {len(probes)} runs')}</p>",
        verdict_of(sweep),
        tiles(_tiles(sweep)),
    ]
    if probes:
        parts += [
            section(
                "Rate and goodput",
                "Goodput is the rate of requests that met every SLO. The band: the highest rate, with 80 %.",
                _goodput(sweep, probes),
            ),
            section("Rate and latency", "Response times, from the intended time.", _latencies(sweep, probes)),
            section("Share of good requests", "", _shares(sweep, probes)),
            section("Where the time went", _parts_note(probes), table(_part_rows(probes))),
            section("Runs, in their order", "", table(rows_of(sweep))),
        ]
    parts.append(section("How it was run", "", table(_circumstances(sweep), text_columns=(1,))))
    return document(f"{name}: sweep", parts)


def verdict_of(sweep: SweepRecord) -> str:
    """In one box."""
    kind = {"found": "", "above": "warn", "below": "bad", "invalid": "bad"}.get(sweep.outcome, "warn")
    reasons = [f"{probe.rate:.3g}/s: {reason}" for probe in sweep.probes if not probe.valid for reason in probe.reasons]
    if any(probe.growing and probe.share >= sweep.target for probe in sweep.probes):
        reasons.append("at a rate that held, more and more requests were in flight until the end: try a longer --for")
    return verdict_box(kind, headline(sweep), reasons)


def headline(sweep: SweepRecord) -> str:
    """What was found, in a sentence."""
    slo = f"{percent(sweep.target)} of requests good ({scenario_slo_words(sweep.scenario)})"
    first = f"; first to break: {sweep.first_broken}" if sweep.first_broken else ""
    match sweep.outcome:
        case "found":
            return (
                f"{_rate(sweep.rate)} with {slo}; between {_rate(sweep.low)} and {_rate(sweep.high)} with 80 %{first}"
            )
        case "above":
            return f"{slo} at every rate that was tried, up to {_rate(sweep.rate)}: give a higher --most-rate"
        case "below":
            return f"Even {_rate(sweep.high)} is too much for {slo}{first}: give a lower --least-rate or other SLOs"
        case "invalid":
            known = f"; {_rate(sweep.low)} still held" if sweep.low else ""
            last = sweep.probes[-1] if sweep.probes else None
            if last is not None and not last.requests:
                return f"Not valid: {'; '.join(last.reasons)}{known}"
            return f"Not valid: the load tester itself could not keep its times{known}"
    known = f"at least {_rate(sweep.low)}" if sweep.low else "no rate that holds is known"
    why = {
        "cut_short": "Cut short",
        "broken_off": f"Broken off, as a run could not be made ({sweep.why})",
    }.get(sweep.outcome, "Not sure enough after the most runs")
    return f"{why}: {known}, below {_rate(sweep.high)}, with {slo}{first}"


def rows_of(sweep: SweepRecord) -> list[tuple[str, ...]]:
    """A header and a row for each run, as text."""
    heads = (
        "rate",
        "requests",
        "good",
        "±",
        "holds",
        "goodput",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "ITL p99",
        "missed",
    )
    is_priced = any(probe.good_token_cost is not None for probe in sweep.probes)
    rows: list[tuple[str, ...]] = [(*heads, *([_COST] if is_priced else []))]
    for probe in sweep.probes:
        cost = "–" if probe.good_token_cost is None else number(probe.good_token_cost)
        rows.append(
            (
                _rate(probe.rate),
                f"{probe.requests:,}",
                percent(probe.share),
                percent(1.96 * probe.error),
                percent(probe.holds) if probe.valid else "not valid",
                _rate(probe.goodput),
                number(probe.tokens),
                seconds(probe.ttft_p50),
                seconds(probe.ttft_p99),
                seconds(probe.itl_p99),
                ", ".join([f"{name} {percent(share)}" for name, share in sorted(probe.missed.items())]) or "–",
                *([cost] if is_priced else []),
            )
        )
    return rows


def part_rows(probe: SweepProbe) -> dict[str, float]:
    """Where the mean time went, by name, in seconds: as finely as the server says it."""
    parts = probe.parts
    if parts is None:
        return {}
    if parts.delivery is not None:
        return {name: value for name in _PARTS if (value := getattr(parts, name)) is not None}
    found = {"client": parts.client}
    if parts.queue is not None:
        found |= {"queue": parts.queue, "to the first token, without queue": max(parts.before_first - parts.queue, 0.0)}
    else:
        found["to the first token"] = parts.before_first
    return found | {"after the first token": parts.after_first}


def _rate(value: float) -> str:
    return f"{number(value)}/s"


def _tiles(sweep: SweepRecord) -> list[tuple[str, str]]:
    best = max(sweep.probes, key=lambda probe: probe.goodput, default=None)
    found = [("highest rate", _rate(sweep.rate) if sweep.rate else "–")]
    if sweep.high > sweep.low:
        found.append(("between", f"{number(sweep.low)} and {_rate(sweep.high)}"))
    if best is not None:
        found += [("best goodput", _rate(best.goodput)), ("there, tokens out", f"{number(best.tokens)}/s")]
        found += [] if best.good_token_cost is None else [(f"there, {_COST}", number(best.good_token_cost))]
    return [*found, ("first to break", sweep.first_broken or "–"), ("runs", str(len(sweep.probes)))]


def _bands(sweep: SweepRecord) -> list[PlotBand]:
    return [PlotBand("the highest rate", sweep.low, sweep.high, quiet=True)] if sweep.rate else []


def _across(probes: Sequence[SweepProbe]) -> PlotAxis:
    return log_axis([probe.rate for probe in probes], _rate, "requests a second that were meant to be sent")


def _valid(probes: Sequence[SweepProbe], value: Callable[[SweepProbe], float | None]) -> list[Point]:
    """By rate; runs at the same rate are taken together."""
    found: dict[float, list[float]] = {}
    for probe in probes:
        if probe.valid and (each := value(probe)) is not None:
            found.setdefault(probe.rate, []).append(each)
    return [(rate, sum(values) / len(values)) for rate, values in found.items()]


def _goodput(sweep: SweepRecord, probes: Sequence[SweepProbe]) -> str:
    lines = [
        PlotLine("goodput", _valid(probes, lambda probe: probe.goodput), 2, dots=True),
        PlotLine("all that were meant to be sent", [(probe.rate, probe.rate) for probe in probes], 5, dashed=True),
    ]
    up = even_axis([probe.rate for probe in probes], _rate)
    return line_plot(lines, _across(probes), up, bands=_bands(sweep), height=280)


def _latencies(sweep: SweepRecord, probes: Sequence[SweepProbe]) -> str:
    lines = []
    for name, colour, value in _LATENCIES:
        points = [(rate, y or None) for rate, y in _valid(probes, value)]
        lines.append(PlotLine(name, points, colour, dots=True))
    up = log_axis([y for line in lines for _, y in line.points if y], seconds)
    slo = sweep.scenario.slo
    limit = ("TTFT objective", float(slo.ttft)) if slo.ttft is not None else None
    return line_plot(lines, _across(probes), up, bands=_bands(sweep), limit=limit, height=280)


def _shares(sweep: SweepRecord, probes: Sequence[SweepProbe]) -> str:
    lines = [PlotLine("", _valid(probes, lambda probe: probe.share), 2, dots=True)]
    up = PlotAxis(0.0, 1.02, percent)
    target = (f"wanted: {percent(sweep.target)}", sweep.target)
    return line_plot(lines, _across(probes), up, bands=_bands(sweep), limit=target, height=200)


def _part_rows(probes: Sequence[SweepProbe]) -> list[tuple[str, ...]]:
    names = list(dict.fromkeys(name for probe in probes for name in part_rows(probe)))
    rows: list[tuple[str, ...]] = [("rate", *names)]
    for probe in probes:
        values = part_rows(probe)
        if values:
            rows.append((_rate(probe.rate), *[seconds(values[n]) if n in values else "–" for n in names]))
    return rows


def _parts_note(probes: Sequence[SweepProbe]) -> str:
    known: list[TimeParts] = [probe.parts for probe in probes if probe.parts is not None]
    base = "The mean response time of whole answers. “client” is from the intended time to sending."
    if known and all(parts.delivery is None for parts in known):
        return (
            f"{base} The server does not say how long prefill and decode took: queue and prefill are before the first"
            " token, decode and delivery after it."
        )
    return f"{base} Queue, prefill and decode are as the server says; delivery is the rest."


def _circumstances(sweep: SweepRecord) -> list[tuple[str, str]]:
    scenario, machine = sweep.scenario, sweep.machine
    return [
        ("", ""),
        ("a request is good with", scenario_slo_words(scenario)),
        ("wanted", f"{percent(sweep.target)} of requests are good; sheds and failures are not"),
        ("arrivals", f"{scenario.arrivals.kind}, {float(scenario.duration):g} s for each rate"),
        ("seed", f"{scenario.seed}, one more for each run"),
        ("load tester", f"penstock {sweep.penstock}, {scenario.workers} worker(s), Python {machine.python}"),
        ("machine", f"{machine.name}: {machine.cpu}, {machine.cpus} CPUs, {machine.system}"),
    ]
