"""The command `penstock`. Its parser suggests the nearest valid word, and lists the commands if none is given."""

import argparse
import errno
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from config.problems.errors import ConfigError
from config.problems.problems import nearest
from engine.errors import ModelError
from gateway.cli import bench, check, init, keys, openapi, serve, usage, zoo
from gateway.cli.batch import run as batch_run
from gateway.cli.batch import status as batch_status
from gateway.cli.load import check as load_check
from gateway.cli.load import compare as load_compare
from gateway.cli.load import merge as load_merge
from gateway.cli.load import replay as load_replay
from gateway.cli.load import report as load_report
from gateway.cli.load import run as load_run
from gateway.cli.load import schema as load_schema
from gateway.cli.load import sweep as load_sweep
from gateway.cli.policy import calibrate, diff, evaluate, expectations, explain, schema, simulate
from gateway.errors import CliError

_NO_OUTPUT = frozenset({errno.ENOSPC, errno.EPIPE, errno.EIO})


class Parser(argparse.ArgumentParser):
    """Like its base class, with suggestions; argparse uses the same class for the parsers of subcommands."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class does, but unknown arguments end the program here, where the valid options are known."""
        given = sys.argv[1:] if args is None else list(args)
        commands = self._subparsers is not None
        if commands and not given:
            self.print_help(sys.stderr)
            self.exit(2)
        if not commands:
            self._check_options(given)
        parsed, rest = super().parse_known_args(given, namespace)
        if rest and not commands:
            rest = self._after_options(parsed, rest)
        if rest:
            self._refuse(rest[0])
        return parsed, rest

    def _after_options(self, parsed: Any, rest: list[str]) -> list[str]:
        """Take a word behind the options for an optional argument: argparse takes it only beside the ones before it."""
        for action in self._get_positional_actions():
            if rest and action.nargs == "?" and getattr(parsed, action.dest) is action.default:
                setattr(parsed, action.dest, self._get_values(action, rest[:1]))
                return rest[1:]
        return rest

    def error(self, message: str) -> NoReturn:
        """Print the error and how to get help; exit with code 2."""
        self.exit(2, f"penstock: {message}\nsee {self.prog} --help\n")

    def _check_options(self, given: Sequence[str]) -> None:
        """Report an unknown option before a missing one: it may be the missing option, mistyped."""
        for word in given:
            name = word.partition("=")[0]
            if name == "--":
                return
            if name.startswith("--") and not any(option.startswith(name) for option in self._option_string_actions):
                self._refuse(name)

    def _refuse(self, word: str) -> NoReturn:
        self.error(f"{self.prog} has no option or argument {word!r}{_hint(word, list(self._option_string_actions))}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = _hint(str(value), known) or f"; choose from: {', '.join(known)}"
            raise argparse.ArgumentError(action, f"there is no {value!r}{hint}")


def _hint(word: str, known: Sequence[str]) -> str:
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0: success; 1: it failed; 2: wrong usage or configuration."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except ConfigError as error:
        from gateway.cli.problem_text import print_problems

        print_problems(error.problems)
        return 2
    except (CliError, ModelError) as error:
        print(f"penstock: {error}", file=sys.stderr)
        return error.status if isinstance(error, CliError) else 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in _NO_OUTPUT:
            raise
        # Python flushes standard output again at exit, which must not print another error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"penstock: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return status


def _parser() -> Parser:
    parser = Parser(prog="penstock", description="A streaming gateway for language models with the engines inside it.")
    parser.add_argument("--version", action="version", version=f"penstock {importlib.metadata.version('penstock')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, init, check):
        command.add_to(commands)
    policy = commands.add_parser("policy", help="check, explain, test, compare and simulate policies")
    of_policy = policy.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check.add_to(of_policy, same_as="penstock check")
    for command in (calibrate, diff, evaluate, explain, schema, simulate, expectations):
        command.add_to(of_policy)
    load = commands.add_parser("load", help="test an OpenAI-compatible server under load")
    of_load = load.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (load_run, load_sweep, load_compare, load_replay, load_merge, load_report, load_check, load_schema):
        command.add_to(of_load)
    batch = commands.add_parser("batch", help="have a file of requests answered, and fetch the results")
    of_batch = batch.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (batch_run.add_run, batch_run.add_resume, batch_status.add_status, batch_status.add_cancel):
        add(of_batch)
    for command in (keys, usage, openapi, zoo, bench):
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
