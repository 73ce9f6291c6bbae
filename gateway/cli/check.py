"""`penstock check` and `penstock policy check`: read a configuration and print all errors and warnings."""

import argparse
import datetime as dt
import sys
from pathlib import Path
from typing import Any

import msgspec

from config.load import LoadedConfig, load
from config.problems.errors import ConfigError, Problem, in_order
from gateway.cli.problem_text import Colour, print_problems

_EPILOG = """\
A configuration with errors is not served; warnings point out what is probably not intended. Exit code 0: no errors;
2: errors, or warnings with --strict. On a terminal each problem is shown with its source line, elsewhere on one line.
Values under names such as key, hash, headers, token or password are never shown.
--json prints a list of {file, line, column, where, severity, message,
expected, suggestion}, empty without problems.
"""


def add_to(commands: "argparse._SubParsersAction[Any]", same_as: str = "") -> None:
    """`same_as`: the other name of this command."""
    help_text = "read a configuration and print every problem in it" + (f"; same as `{same_as}`" if same_as else "")
    parser = commands.add_parser("check", help=help_text, description=f"{help_text}.".capitalize(), epilog=_EPILOG)
    parser.add_argument("config", type=Path, metavar="FILE", help="a TOML file, or a folder of them")
    parser.add_argument("--strict", action="store_true", help="exit with 2 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours and source lines; auto: on a terminal only, and no colours if NO_COLOR is set (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the problems; if there are no errors, a summary of the file. Exit code 2 for errors."""
    loaded: LoadedConfig | None = None
    try:
        loaded = load(arguments.config, today=dt.datetime.now(dt.UTC).date(), with_models=True)
        problems = loaded.warnings
    except ConfigError as error:
        problems = in_order([*error.problems, *error.warnings])
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(problems, enc_hook=str)).decode())
    else:
        _print(arguments.config, loaded, problems, arguments.color)
    return 2 if loaded is None or (arguments.strict and problems) else 0


def _print(path: Path, loaded: LoadedConfig | None, problems: tuple[Problem, ...], colour: Colour) -> None:
    print_problems(problems, colour)
    warnings = sum(problem.severity == "warning" for problem in problems)
    if loaded is None:
        print(f"{path}: errors {len(problems) - warnings}, warnings {warnings}", file=sys.stderr)
        return
    tables = msgspec.structs.asdict(loaded.settings)
    del tables["prices"]
    counts = {name: len(table) for name, table in tables.items() if isinstance(table, dict | tuple)}
    counts["warnings"] = warnings
    print(f"{path}: valid: " + ", ".join([f"{name} {count}" for name, count in counts.items() if count]))
