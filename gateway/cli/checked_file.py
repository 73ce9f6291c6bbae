"""What `penstock check` and `penstock load check` have in common: options, what is printed, and the exit code."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from config.problems.errors import ConfigError, Problem, in_order
from gateway.cli.problem_text import print_problems


class CheckedFile(Protocol):
    """A file that was read without errors."""

    @property
    def warnings(self) -> tuple[Problem, ...]: ...


F = TypeVar("F", bound=CheckedFile)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="exit with 2 for warnings, too")
    parser.add_argument("--json", action="store_true", help="print the problems as JSON")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours and source lines; auto: on a terminal only, and no colours if NO_COLOR is set (%(default)s)",
    )


def check_file(
    path: Path, arguments: argparse.Namespace, load: Callable[[Path], F], summary: Callable[[F], str]
) -> int:
    """Print the problems; if there are no errors, a summary of the file. Exit code 2 for errors.

    `load` raises ConfigError.
    """
    loaded: F | None = None
    try:
        loaded = load(path)
        problems = loaded.warnings
    except ConfigError as error:
        problems = in_order([*error.problems, *error.warnings])
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(problems, enc_hook=str)).decode())
    else:
        print_problems(problems, arguments.color)
        if loaded is None:
            warnings = sum(problem.severity == "warning" for problem in problems)
            print(f"{path}: errors {len(problems) - warnings}, warnings {warnings}", file=sys.stderr)
        else:
            print(f"{path}: valid: {summary(loaded)}")
    return 2 if loaded is None or (arguments.strict and problems) else 0
