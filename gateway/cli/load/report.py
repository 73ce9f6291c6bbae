"""`penstock load report`: a run record as a page."""

import argparse
from pathlib import Path
from typing import Any

from gateway.cli.terminal import say, write_file
from gateway.errors import CliError
from loadtests.model.errors import RecordError
from loadtests.model.record_file import read_record
from loadtests.report.run_page import run_page
from loadtests.report.sweep_page import sweep_page
from loadtests.sweeping.sweep_record import is_sweep, read_sweep


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser("report", help="make a page with plots of a run or a sweep")
    parser.add_argument("record", type=Path, metavar="RUN.json", help="what load run or load sweep wrote with --out")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the page (RUN.html beside the record)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        if is_sweep(arguments.record):
            page = sweep_page(read_sweep(arguments.record))
        else:
            page = run_page(read_record(arguments.record))
    except RecordError as error:
        raise CliError(str(error), 2) from None
    out = arguments.out or arguments.record.with_suffix(".html")
    if out == arguments.record:
        raise CliError(f"{out} is the record itself: name another file by --out", 2)
    write_file(out, page.encode())
    say(f"wrote {out}")
    return 0
