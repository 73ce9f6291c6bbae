"""`penstock policy schema`: the JSON Schema with which editors complete and check a configuration."""

import argparse
import json
from typing import Any

from config.json_schema.schema import settings_schema

_EPILOG = """\
For editors with taplo (Even Better TOML): write the schema to a file, and begin the configuration with
  #:schema ./penstock.schema.json
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of a configuration, for editors",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--part", action="store_true", help="the schema for one file of a folder, which need not have all tables"
    )
    parser.add_argument("--json", action="store_true", help="without effect: the output is always JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    print(json.dumps(settings_schema(part=arguments.part), indent=2, ensure_ascii=False))
    return 0
