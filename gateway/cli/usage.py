"""`penstock usage`: requests, tokens and cost from the ledger, by tenant, route, day and more."""

import argparse
import csv
import datetime as dt
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.api.errors import LedgerFileError
from actors.ledger.usage_report import GROUPS, UsageRow, read_usage
from config.load import load_settings
from config.model.units import parse_duration
from config.profiles import embedded_profile
from gateway.cli.terminal import Page
from gateway.errors import CliError

_FIGURES = ("requests", "running", "prompt_tokens", "completion_tokens", "discarded_tokens", "cost")
_TIME = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d(:\d\d(:\d\d)?)?)?)?)?Z?")
_FIRST = "0001-01-01T00:00:00"
"""What completes a time of which the end was left out."""
_EPILOG = """\
Times are UTC, by when a request began: 2026-11, 2026-11-29, 2026-11-29T08:00, or a span until now such as 7d or 12h.
Requests that were refused are left out; those that run are counted, without tokens and cost. The server may run
meanwhile.
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    text = "print requests, tokens and cost from the ledger"
    parser = commands.add_parser("usage", help=text, description=f"{text}.".capitalize(), epilog=_EPILOG)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--ledger", type=Path, metavar="FILE", help="the ledger's file (default: of the configuration)")
    where.add_argument("--config", type=Path, metavar="FILE", help="a configuration, whose [ledger] path is read")
    parser.add_argument(
        "--by", default="tenant", metavar="NAMES", help=f"with commas: {', '.join(GROUPS)} (default: %(default)s)"
    )
    parser.add_argument("--since", default="", metavar="TIME", help="requests that began then or later")
    parser.add_argument("--until", default="", metavar="TIME", help="requests that began before")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV")
    form.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    by = tuple([name.strip() for name in arguments.by.split(",")])
    for name in by:
        if name not in GROUPS or by.count(name) > 1:
            raise CliError(f"--by {arguments.by}: names, each once, of {', '.join(GROUPS)}", 2)
    now = dt.datetime.now(dt.UTC)
    since, until = _time("--since", arguments.since, now), _time("--until", arguments.until, now)
    try:
        rows = read_usage(_ledger(arguments), by, since=since, until=until)
    except LedgerFileError as error:
        raise CliError(str(error)) from None
    if arguments.json:
        named = [{**dict(zip(by, row.group, strict=True)), **_figures(row)} for row in rows]
        print(msgspec.json.format(msgspec.json.encode(named)).decode())
    elif arguments.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([*by, *_FIGURES])
        writer.writerows([[*row.group, *_figures(row).values()] for row in rows])
    else:
        _print(rows, by)
    return 0


def _ledger(arguments: argparse.Namespace) -> Path:
    if arguments.ledger is not None:
        path: Path = arguments.ledger
        return path
    configured = load_settings(arguments.config or embedded_profile()).ledger.path
    if str(configured) == ":memory:":
        raise CliError("the configuration keeps its ledger in memory only: set [ledger] path to keep usage", 2)
    return configured


def _time(option: str, given: str, now: dt.datetime) -> str:
    """As the ledger writes times, so that they compare as text."""
    written = given.removesuffix("Z")
    try:
        if not given or _TIME.fullmatch(given):
            dt.datetime.fromisoformat(written + _FIRST[len(written) :])
            return written
        return (now - dt.timedelta(seconds=parse_duration(given))).strftime("%Y-%m-%dT%H:%M:%S")
    except (ValueError, OverflowError):
        message = f"{option} {given}: a time such as 2026-11-29 or 2026-11-29T08:00, or a span such as 7d"
        raise CliError(message, 2) from None


def _figures(row: UsageRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIGURES}


def _print(rows: Sequence[UsageRow], by: Sequence[str]) -> None:
    page = Page()
    if not rows:
        page.line("no requests")
        page.print()
        return
    cells = [[*by, *[name.removesuffix("_tokens") for name in _FIGURES]]]
    cells += [[*[_shown(each) for each in row.group], *_numbers(row)] for row in rows]
    if len(rows) > 1:
        total = UsageRow((), *[sum([getattr(row, name) for row in rows]) for name in _FIGURES])
        cells.append(["total", *[""] * (len(by) - 1), *_numbers(total)])
    page.table(_right(cells, len(by)), indent=0)
    page.print()


def _shown(name: str) -> str:
    """Names of models come from clients: no character of theirs moves the cursor."""
    return "".join([each if each.isprintable() else "?" for each in name]) or "-"


def _numbers(row: UsageRow) -> list[str]:
    return [f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" for value in _figures(row).values()]


def _right(cells: list[list[str]], first: int) -> list[list[str]]:
    """With the columns from `first` on at their right edge."""
    widths = [max([len(row[place]) for row in cells]) for place in range(len(cells[0]))]
    return [[cell if place < first else cell.rjust(widths[place]) for place, cell in enumerate(row)] for row in cells]
