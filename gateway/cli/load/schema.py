"""`penstock load schema`: the JSON Schema with which editors complete and check a scenario."""

import argparse
import json
from typing import Any

from config.json_schema.schema import file_schema
from loadtests.comparing.comparison import LoadComparison
from loadtests.model.record_file import record_schema, schema_without_scenario
from loadtests.model.scenario import Scenario
from loadtests.sweeping.sweep_record import SweepRecord

_EPILOG = """\
For editors with taplo (Even Better TOML): write the schema to a file, and begin the scenario with
  #:schema ./scenario.schema.json
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "schema",
        help="print the JSON Schema of a scenario, for editors",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--record", action="store_true", help="the schema of run records, which are JSON, instead")
    kinds.add_argument("--sweep", action="store_true", help="that of sweeps")
    kinds.add_argument("--comparison", action="store_true", help="that of what load compare --json prints")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.record:
        print(json.dumps(record_schema(), indent=2))
        return 0
    for is_asked, kind in ((arguments.sweep, SweepRecord), (arguments.comparison, LoadComparison)):
        if is_asked:
            print(json.dumps(schema_without_scenario(kind), indent=2))
            return 0
    print(json.dumps(file_schema(Scenario, "A Penstock load test"), indent=2, ensure_ascii=False))
    return 0
