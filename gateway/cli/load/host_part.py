"""The flags of a run that several hosts share: which part is this host's, and when all begin."""

import argparse
import datetime as dt
import re
import time

from gateway.cli.terminal import say
from gateway.errors import CliError
from loadtests.model.scenario import Scenario
from loadtests.running.run import HostPart

_LONGEST_WAIT_S = 86_400.0


def add_part_flags(parser: argparse.ArgumentParser) -> None:
    """Those of a single run."""
    add = parser.add_argument
    add("--part", default="1/1", metavar="K/N", help="be the K-th of N hosts that share the requests; see load merge")
    add("--start-at", metavar="TIME", help="when to begin, such as 2026-05-01T12:00:00Z")


def part_of_run(arguments: argparse.Namespace, scenario: Scenario) -> HostPart:
    """Raises CliError."""
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", arguments.part)
    part, parts = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    if not 1 <= part <= parts:
        raise CliError(f"--part {arguments.part}: expected such as 2/3, the second of three hosts", 2)
    if parts > 1 and scenario.faults:
        raise CliError("a run that several hosts share has no faults: a fault is of one host; leave them out", 2)
    if parts > 1 and arguments.start_at is None:
        raise CliError("--part needs --start-at: all hosts are to begin at the same time", 2)
    workers, bound = parts * scenario.workers, scenario.arrivals.max_in_flight
    if bound is not None and bound < workers:
        raise CliError(f"max_in_flight = {bound} is less than one for each of {workers} workers of {parts} hosts", 2)
    return HostPart(part, parts, None if arguments.start_at is None else _start(arguments.start_at))


def _start(text: str) -> float:
    """Unix time."""
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        example = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
        raise CliError(f"--start-at {text}: expected a time with its zone, such as {example:%Y-%m-%dT%H:%M:%SZ}", 2)
    left_s = when.timestamp() - time.time()
    if not 0 < left_s <= _LONGEST_WAIT_S:
        raise CliError(f"--start-at {text} {'is over' if left_s <= 0 else 'is more than a day away'}", 2)
    say(f"the run begins in {left_s:.0f} s")
    return when.timestamp()
