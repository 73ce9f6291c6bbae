"""The command `penstock`."""

import importlib.metadata
import sys
from collections.abc import Sequence

from config.problems.errors import ConfigError
from gateway.cli import bench, check, init, keys, serve, zoo
from gateway.cli.parser import Parser
from gateway.cli.policy import calibrate, diff, evaluate, expectations, explain, schema, simulate
from gateway.errors import CliError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0: success; 1: it failed; 2: wrong usage or configuration."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ConfigError as error:
        from gateway.cli.problem_text import print_problems

        print_problems(error.problems)
        return 2
    except CliError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> Parser:
    parser = Parser(prog="penstock", description="A streaming gateway for language models with the engines inside it.")
    parser.add_argument("--version", action="version", version=f"penstock {importlib.metadata.version('penstock')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, init, check):
        command.add_to(commands)
    policy = commands.add_parser("policy", help="check, explain, test, compare and simulate policies")
    of_policy = policy.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (check, calibrate, diff, evaluate, explain, schema, simulate, expectations):
        command.add_to(of_policy)
    for command in (keys, zoo, bench):
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
