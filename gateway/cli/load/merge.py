"""`penstock load merge`: one run record from those of several hosts."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.load.result_files import check_results
from gateway.cli.load.run import ended
from gateway.errors import CliError
from loadtests.model.errors import RecordError
from loadtests.model.record_file import read_record
from loadtests.running.merged_record import merge_records

_EPILOG = """\
On each of three hosts: penstock load run SCENARIO --part 1/3 (2/3, 3/3) --start-at TIME --out PART.json. The exit codes
are those of penstock load run.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("merge", help="make one record of a run that several hosts shared", epilog=_EPILOG)
    parser.add_argument("parts", type=Path, nargs="+", metavar="PART.json", help="what each of them wrote with --out")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write the run record, as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.out in arguments.parts:
        raise CliError(f"{arguments.out} is one of the parts: name another file by --out", 2)
    check_results(arguments.out)
    try:
        records = [read_record(path) for path in arguments.parts]
        record = merge_records(records, [str(path) for path in arguments.parts])
    except RecordError as error:
        raise CliError(str(error), 2) from None
    return ended(record, arguments.out)
