"""`penstock openapi`: the API's description, as a server has it at `/openapi.json`."""

import argparse
import json
from typing import Any

_EPILOG = """\
A client for Python, for example:
  penstock openapi > openapi.json
  pipx run openapi-python-client generate --path openapi.json
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "openapi",
        help="print the OpenAPI document of the server's addresses, without a server",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--keyless", action="store_true", help="as of a server that needs no key")
    parser.add_argument("--json", action="store_true", help="without effect: the output is always JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from gateway.endpoints.operations.all_operations import described

    print(json.dumps(described(keyless=arguments.keyless), indent=2, ensure_ascii=False))
    return 0
