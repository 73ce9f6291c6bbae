"""`penstock load sweep`: the highest rate at which the SLOs hold."""

import argparse
import importlib.metadata
from pathlib import Path
from typing import Any

import trio

from gateway.cli.load.result_files import check_results, write_result
from gateway.cli.load.run import INVALID, carry_out
from gateway.cli.load.scenario_flags import add_scenario_flags, keys_of, scenario_of
from gateway.cli.problem_text import print_problems
from gateway.cli.terminal import Page, percent, say
from gateway.errors import CliError
from loadtests.model.errors import RunError
from loadtests.model.run_record import RunRecord
from loadtests.model.scenario import Scenario, SloSettings
from loadtests.model.timing import duration_of
from loadtests.report.sweep_page import headline, part_rows, rows_of, sweep_page
from loadtests.report.words import number, seconds
from loadtests.running.machine import this_machine
from loadtests.sweeping.sweep import Sweep, SweepProgress, SweepSettings
from loadtests.sweeping.sweep_record import SweepRecord, encode_sweep

_BAR = 40
_EPILOG = """\
Each rate gets a run of --for, which should be long beside the time that the server's queues need to fill: a rate a
little too high looks well for a while. Exit code 0: the rate was found; 1: it was not, or a file could not be written;
2: wrong usage; 3: the load tester itself could not keep its times; 130: it was ended by Ctrl-C.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("sweep", help="find the highest rate at which the SLOs hold", epilog=_EPILOG)
    add_scenario_flags(parser)
    add = parser.add_argument
    add("--share", type=float, default=0.95, metavar="P", help="of requests that must meet every SLO (%(default)s)")
    add("--least-rate", type=float, default=0.1, metavar="N", help="the lowest rate to try (%(default)s)")
    add("--most-rate", type=float, default=1000.0, metavar="N", help="the highest rate to try (%(default)s)")
    add("--within", type=float, default=0.04, metavar="SHARE", help="how exact the rate must be (%(default)s)")
    add("--most-runs", type=int, default=16, metavar="N", help="the most runs (%(default)s)")
    add("--out", type=Path, metavar="FILE", help="write the sweep, as JSON: penstock load report reads it")
    add("-o", "--html", type=Path, metavar="FILE", help="write a page with plots")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    loaded = scenario_of(arguments)
    print_problems(loaded.warnings)
    scenario = loaded.scenario
    settings = _settings(scenario, arguments)
    keys = keys_of(scenario, arguments)
    check_results(arguments.out, arguments.html)
    run_s = duration_of(scenario)

    async def once(at_rate: Scenario) -> RunRecord:
        try:
            return await carry_out(at_rate, keys)
        except CliError as error:
            raise RunError(str(error)) from None

    def show(progress: SweepProgress) -> None:
        say(_progress_line(progress, run_s, settings.target))

    version = importlib.metadata.version("penstock")
    try:
        found = trio.run(Sweep(scenario, settings, once, show, version=version, machine=this_machine()).run)
    except RunError as error:
        raise CliError(str(error)) from None
    page_of(found).print()
    written = write_result(arguments.out, lambda: encode_sweep(found), f"the sweep is in {arguments.out}")
    written &= write_result(arguments.html, lambda: sweep_page(found).encode(), f"wrote {arguments.html}")
    return {"found": 0 if written else 1, "invalid": INVALID, "cut_short": 130}.get(found.outcome, 1)


def _settings(scenario: Scenario, arguments: argparse.Namespace) -> SweepSettings:
    if scenario.arrivals.kind == "closed":
        raise CliError("a sweep needs an open loop: in a closed one a slow server is asked less", 2)
    if scenario.arrivals.kind == "trace":
        raise CliError("a sweep sets the rate itself, and a trace has its own times: leave the trace out", 2)
    if scenario.arrivals.phases:
        raise CliError("a sweep sets the rate itself: leave the phases out of the scenario", 2)
    if scenario.faults:
        raise CliError(
            "a sweep has no faults: what it finds would depend on how long its runs are beside the fault; sweep"
            " without them, then load run with them at a part of that rate",
            2,
        )
    if scenario.slo == SloSettings() and not scenario.tier_slo:
        raise CliError("a sweep needs SLOs: give --slo ttft=500ms,tpot=50ms, or [slo] in the scenario", 2)
    for flag, value, low, high in (
        ("--share", arguments.share, 0.01, 0.9999),
        ("--within", arguments.within, 0.01, 0.5),
        ("--least-rate", arguments.least_rate, 0.001, 1e5),
        ("--most-rate", arguments.most_rate, 0.001, 1e5),
        ("--most-runs", arguments.most_runs, 1, 200),
    ):
        if not low <= value <= high:
            raise CliError(f"{flag} must be from {low:g} to {high:g}", 2)
    if arguments.least_rate >= arguments.most_rate:
        raise CliError("--least-rate must be below --most-rate", 2)
    return SweepSettings(
        first=scenario.arrivals.rate or 1.0,
        lowest=arguments.least_rate,
        highest=arguments.most_rate,
        target=arguments.share,
        tolerance=arguments.within,
        most=arguments.most_runs,
    )


def _progress_line(progress: SweepProgress, run_s: float, target: float) -> str:
    probe = progress.probe
    if probe is None:
        left_s = progress.left * run_s
        left = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        return f"run {progress.number}: {number(progress.rate)}/s; about {progress.left} more, {left}"
    if not probe.valid:
        return f"  not valid, it is made again: {'; '.join(probe.reasons)}"
    word = "holds" if probe.share >= target else "too much"
    return (
        f"  {word}: {percent(probe.share)} ± {percent(1.96 * probe.error)} good, TTFT p99 {seconds(probe.ttft_p99)}"
        + (", and the queue was still growing" if probe.growing else "")
    )


def page_of(sweep: SweepRecord) -> Page:
    """What is printed at the end."""
    page = Page()
    style = {"found": "bold green", "invalid": "bold red", "below": "bold red"}.get(sweep.outcome, "bold yellow")
    page.line(headline(sweep), style=style)
    probes = sorted(sweep.probes, key=lambda probe: probe.rate)
    if not probes:
        return page
    page.heading("rate and goodput")
    most = max(max(probe.rate, probe.goodput) for probe in probes)
    for probe in probes:
        whole, good = round(_BAR * probe.rate / most), round(_BAR * probe.goodput / most)
        bar = "█" * good + "░" * max(whole - good, 0)
        note = "" if probe.valid else "  not valid"
        page.line(f"{number(probe.rate):>7}/s {bar:<{_BAR}} {number(probe.goodput)}/s good{note}", indent=2)
    page.heading("runs, in their order")
    page.table(rows_of(sweep))
    _add_parts(page, sweep)
    return page


def _add_parts(page: Page, sweep: SweepRecord) -> None:
    """Where the time went just below and above the rate."""
    valid = [probe for probe in sweep.probes if probe.valid and probe.parts is not None]
    below = max((p for p in valid if p.share >= sweep.target), key=lambda probe: probe.rate, default=None)
    above = min((p for p in valid if p.share < sweep.target), key=lambda probe: probe.rate, default=None)
    shown = [probe for probe in (below, above) if probe is not None]
    if shown:
        page.heading("where the mean response time went")
        names = list(dict.fromkeys(name for probe in shown for name in part_rows(probe)))
        rows = [("", *names)]
        for probe in shown:
            word = "held" if probe.share >= sweep.target else "too much"
            cells = part_rows(probe)
            rows.append((f"{number(probe.rate)}/s, {word}", *[seconds(cells.get(name, 0.0)) for name in names]))
        page.table(rows)
