"""`penstock load compare`: is B different from A, and how sure is that?"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from gateway.cli.load.result_files import check_folder, check_results, write_result
from gateway.cli.load.run import INVALID, carry_out, check_server
from gateway.cli.load.scenario_flags import add_flags, keys_of, scenario_of
from gateway.cli.problem_text import print_problems
from gateway.cli.terminal import Page, print_data, say
from gateway.errors import CliError
from loadtests.comparing.comparison import LoadComparison, compare_runs
from loadtests.comparing.condition import parse_condition
from loadtests.comparing.measures import MeasureError
from loadtests.model.errors import RecordError
from loadtests.model.record_file import encode_record, read_record
from loadtests.model.run_record import RunRecord
from loadtests.model.scenario import Scenario
from loadtests.report.compare_page import compare_page, headline, rows_of

_MOST_REPEATS = 20
_EPILOG = """\
Two records are compared as they are. With --a and --b one scenario is run against both servers in turn, several times,
each time with the same requests at the same times. A condition of --fail-on names a measure and how far B may not be
from A: "ttft_p99>+10%", "e2e_p50>+20ms", "goodput<-5%", "failed_share>+1pp". Exit code 0: no condition is broken;
1: one is, or with --strict may be, a run could not be made, or a file not be written; 2: wrong usage; 3: a run is not
valid; 130: it was ended by Ctrl-C.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("compare", help="compare two runs, or two servers under the same load", epilog=_EPILOG)
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="A.json B.json; with --a and --b: a scenario, or nothing")
    add("--a", metavar="URL", help="the one server")
    add("--b", metavar="URL", help="the other")
    add("--repeats", type=int, default=3, metavar="N", help="runs of each server, in turn (%(default)s)")
    add(
        "--fail-on",
        action="append",
        default=[],
        metavar="CONDITION",
        help="such as ttft_p99>+10%%; several are allowed",
    )
    add("--strict", action="store_true", help="a condition that is broken by the figures, if not surely, fails, too")
    add("--json", action="store_true", help="print the comparison as JSON")
    add("-o", "--html", type=Path, metavar="FILE", help="also write a page with plots")
    add("--keep", type=Path, metavar="FOLDER", help="with --a and --b: write the run records there")
    add_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        conditions = [parse_condition(text) for text in arguments.fail_on]
    except MeasureError as error:
        raise CliError(f"--fail-on: {error}", 2) from None
    check_results(arguments.html)
    ended = 0
    if arguments.a is None and arguments.b is None:
        a, b, names = _from_files(arguments)
    else:
        a, b, names, ended = _from_servers(arguments)
    comparison = compare_runs(a, b, conditions, names=names)
    if arguments.json:
        print_data(comparison)
    else:
        _page(comparison).print()
    page = partial(compare_page, comparison, a, b)
    written = write_result(arguments.html, lambda: page().encode(), f"wrote {arguments.html}")
    return ended or _exit_code(comparison, strict=arguments.strict) or (0 if written else 1)


def _exit_code(comparison: LoadComparison, *, strict: bool) -> int:
    if comparison.invalid:
        return INVALID
    failing = {"broken", "unknown"} if strict else {"broken"}
    return 1 if any(each.outcome in failing for each in comparison.conditions) else 0


def _from_files(arguments: argparse.Namespace) -> tuple[list[RunRecord], list[RunRecord], tuple[str, str]]:
    if len(arguments.files) != 2:
        raise CliError("two run records are compared: penstock load compare A.json B.json (or give --a and --b)", 2)
    try:
        a, b = (read_record(path) for path in arguments.files)
    except RecordError as error:
        raise CliError(str(error), 2) from None
    for path, record in zip(arguments.files, (a, b), strict=True):
        if not record.header.measured_s:
            raise CliError(f"{path}: nothing was measured: the run ended during its warm-up", 2)
    return [a], [b], (str(arguments.files[0]), str(arguments.files[1]))


def _from_servers(arguments: argparse.Namespace) -> tuple[list[RunRecord], list[RunRecord], tuple[str, str], int]:
    """The runs, what they are called, and the exit code if not all were made. Raises CliError."""
    if arguments.a is None or arguments.b is None:
        raise CliError("--a and --b are the two servers: give both", 2)
    if len(arguments.files) > 1:
        raise CliError("with --a and --b at most one scenario is given: both servers get the same", 2)
    if arguments.url is not None:
        raise CliError("--url is given by --a and --b here", 2)
    if not 1 <= arguments.repeats <= _MOST_REPEATS:
        raise CliError(f"--repeats must be from 1 to {_MOST_REPEATS}", 2)
    arguments.scenario = arguments.files[0] if arguments.files else None
    scenarios = []
    for url in (arguments.a, arguments.b):
        arguments.url = url
        loaded = scenario_of(arguments)
        scenarios.append(loaded.scenario)
    print_problems(loaded.warnings)
    keys = keys_of(scenarios[0], arguments)
    check_folder(arguments.keep)
    for scenario in scenarios:
        trio.run(check_server, scenario)
    runs: tuple[list[RunRecord], list[RunRecord]] = ([], [])
    ended = 0
    try:
        for repeat in range(arguments.repeats):
            # A B, B A, A B: what drifts evenly over time favours neither.
            for side in ((0, 1), (1, 0))[repeat % 2]:
                say(f"run {repeat + 1} of {arguments.repeats}: {'AB'[side]}, {scenarios[side].target.url}")
                runs[side].append(_one(scenarios[side], repeat, keys))
                _keep(arguments.keep, "ab"[side], repeat, runs[side][-1])
    except (CliError, KeyboardInterrupt) as error:
        pairs = min(map(len, runs))
        if not pairs:
            raise
        ended = 130 if isinstance(error, KeyboardInterrupt) else 1
        say(f"{error or 'cut short'}: compared are the first {pairs} runs of each")
        for made in runs:
            del made[pairs:]
    return runs[0], runs[1], (arguments.a, arguments.b), ended


def _one(scenario: Scenario, repeat: int, keys: dict[str, str]) -> RunRecord:
    scenario = msgspec.structs.replace(scenario, seed=scenario.seed + repeat)
    record = trio.run(carry_out, scenario, keys)
    if record.verdict.cut_short:
        raise KeyboardInterrupt
    return record


def _keep(folder: Path | None, side: str, repeat: int, record: RunRecord) -> None:
    if folder is not None:
        path = folder / f"{side}{repeat + 1}.json"
        write_result(path, lambda: encode_record(record), f"the run record is in {path}")


def _page(comparison: LoadComparison) -> Page:
    page = Page()
    if comparison.invalid:
        page.line("NOT VALID: figures of a run are not its server's", style="bold red")
        for reason in comparison.invalid:
            page.line(reason, indent=2, style="red")
    page.line(f"A: {comparison.a}", style="bold")
    page.line(f"B: {comparison.b}", style="bold")
    page.line(headline(comparison), style="bold")
    for note in comparison.notes:
        page.line(note, indent=2, style="dim")
    page.heading(f"measures; an interval is where the change lies with {comparison.confidence:.0%}")
    page.table(rows_of(comparison))
    if comparison.conditions:
        page.heading("conditions")
        for each in comparison.conditions:
            style = {"broken": "bold red", "unknown": "yellow"}.get(each.outcome, "green")
            page.line(f"{each.outcome}: {each.text}: {each.words}", indent=2, style=style)
    return page
