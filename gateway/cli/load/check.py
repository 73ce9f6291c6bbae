"""`penstock load check`: read a scenario and print all errors and warnings."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.checked_file import add_options, check_file
from loadtests.model.scenario_file import LoadedScenario, load_scenario
from loadtests.model.timing import arrivals_of, duration_of, warm_up_of


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("check", help="read a scenario and print every problem in it")
    parser.add_argument("scenario", type=Path, metavar="SCENARIO", help="a TOML file")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return check_file(arguments.scenario, arguments, load_scenario, _summary)


def _summary(loaded: LoadedScenario) -> str:
    scenario = loaded.scenario
    kinds = max(len(scenario.mix), 1)
    parts = [f"{duration_of(scenario):g} s of which {warm_up_of(scenario):g} s are warm-up"]
    if scenario.arrivals.kind == "closed":
        parts.append(f"{scenario.arrivals.clients} clients in a closed loop")
    else:
        parts.append(f"about {arrivals_of(scenario):,.0f} arrivals ({scenario.arrivals.kind})")
    return ", ".join([*parts, f"{kinds} kind{'s' if kinds > 1 else ''} of requests"])
