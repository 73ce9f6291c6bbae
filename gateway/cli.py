"""The command `penstock`."""

import importlib.metadata
import sys
from collections.abc import Sequence

from config.errors import ConfigError
from gateway import cli_bench, cli_check, cli_init, cli_keys, cli_policy, cli_serve, cli_zoo
from gateway.cli_errors import CliError
from gateway.cli_parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. 0: done; 1: it could not be done; 2: what was asked cannot be meant."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
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
    for command in (cli_serve, cli_init, cli_check, cli_policy, cli_keys, cli_zoo, cli_bench):
        command.add_to(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
