"""`penstock load check`: read a scenario and print all errors and warnings."""

import argparse
import sys
from pathlib import Path
from typing import Any

import msgspec

from config.problems.errors import ConfigError, in_order
from gateway.cli.problem_text import print_problems
from loadtests.model.scenario_file import LoadedScenario, load_scenario
from loadtests.model.timing import arrivals_of, duration_of, warm_up_of


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("check", help="read a scenario and print every problem in it")
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="a TOML file")
    parser.add_argument("--strict", action="store_true", help="exit with 2 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="(%(default)s)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 2 for errors."""
    loaded: LoadedScenario | None = None
    try:
        loaded = load_scenario(arguments.scenario)
        problems = loaded.warnings
    except ConfigError as error:
        problems = in_order([*error.problems, *error.warnings])
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(problems, enc_hook=str)).decode())
    else:
        print_problems(problems, arguments.color)
        warnings = sum(problem.severity == "warning" for problem in problems)
        if loaded is None:
            print(f"{arguments.scenario}: errors {len(problems) - warnings}, warnings {warnings}", file=sys.stderr)
        else:
            print(f"{arguments.scenario}: valid: {_summary(loaded)}")
    return 2 if loaded is None or (arguments.strict and problems) else 0


def _summary(loaded: LoadedScenario) -> str:
    scenario = loaded.scenario
    kinds = max(len(scenario.mix), 1)
    parts = [f"{duration_of(scenario):g} s of which {warm_up_of(scenario):g} s are warm-up"]
    if scenario.arrivals.kind == "closed":
        parts.append(f"{scenario.arrivals.clients} clients in a closed loop")
    else:
        parts.append(f"about {arrivals_of(scenario):,.0f} arrivals ({scenario.arrivals.kind})")
    return ", ".join([*parts, f"{kinds} kind{'s' if kinds > 1 else ''} of requests"])
