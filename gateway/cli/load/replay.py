"""`penstock load replay`: send recorded traffic again, as it came."""

import argparse
import math
from pathlib import Path
from typing import Any

from gateway.cli.load.host_part import add_part_flags
from gateway.cli.load.run import run_scenario
from gateway.cli.load.scenario_flags import add_flags, scenario_of
from gateway.cli.load.trace import recorded
from gateway.errors import CliError
from loadtests.model.scenario import Arrivals

_EPILOG = """\
TRACE is Azure's CSV, Mooncake's JSONL or a recording of penstock serve --record. Times, lengths and shared prefixes are
the trace's; the texts are made of common words. The exit codes are those of penstock load run.
"""
_OTHERS = ("rate", "arrivals", "clients", "prompt", "output")


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("replay", help="send recorded traffic again", epilog=_EPILOG)
    add = parser.add_argument
    add("trace", type=Path, metavar="TRACE", help="recorded traffic")
    add("--speed", type=float, default=1.0, metavar="X", help="so many times as fast (%(default)s)")
    add("--longest-prompt", type=int, metavar="TOKENS", help="cut longer prompts, for models with a short context")
    add("--longest-output", type=int, metavar="TOKENS", help="ask for no more tokens")
    add("--scenario", type=Path, metavar="FILE", help="target, tenants, mix, SLOs: all but the arrivals")
    add_flags(parser)
    add_part_flags(parser)
    add("--out", type=Path, metavar="FILE", help="write the run record, as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    for name in _OTHERS:
        if getattr(arguments, name) is not None:
            raise CliError(f"--{name} cannot be combined with a trace, which has its own times and lengths", 2)
    if not (math.isfinite(arguments.speed) and 0 < arguments.speed <= 1e6):
        raise CliError("--speed must be above 0", 2)
    for name in ("longest_prompt", "longest_output"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise CliError(f"--{name.replace('_', '-')} must be at least 1", 2)
    requests = recorded(arguments.trace)
    if arguments.duration is None:
        # All of them: the last one is sent before the end.
        arguments.duration = f"{math.ceil(requests[-1].at / arguments.speed) + 1}s"
    changes = {
        name: value for name in ("longest_prompt", "longest_output") if (value := getattr(arguments, name)) is not None
    }
    arrivals = Arrivals(kind="trace", trace=arguments.trace.absolute(), speed=arguments.speed, **changes)
    return run_scenario(scenario_of(arguments, arrivals), arguments)
