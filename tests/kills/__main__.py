"""`make kills`: engines, connections of upstreams and clients go at random moments under mixed load.

After each round nothing may be lost, doubled, invented or left. The first round that fails is printed with what repeats
it, and ends the run.
"""

import argparse
import sys
import time
from collections import Counter
from itertools import count

from tests.kills.children import kill_children
from tests.kills.rounds import RoundReport, kill_some


def main(arguments: list[str]) -> int:
    """1 if something was lost, doubled, invented or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="at least so many kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: %(default)s)")
    parser.add_argument("--round", type=int, help="only this round of the seed")
    parser.add_argument("--processes", type=int, default=5, help="SIGKILLs of an engine's process beside (default: 5)")
    options = parser.parse_args(arguments)
    began, total, rounds = time.monotonic(), RoundReport(), 0
    for number in count() if options.round is None else [options.round]:
        if total.kills.total() >= options.count:
            break
        report = kill_some(options.seed, number)
        rounds += 1
        if report.faults:
            return _failed(report, f"--seed {options.seed} --round {number} --processes 0")
        _add(total, report)
        if rounds % 50 == 0:
            _say(total, rounds, began)
    if options.processes:
        report = kill_children(options.seed, options.processes)
        if report.faults:
            return _failed(report, f"--seed {options.seed} --count 0 --processes {options.processes}")
        _add(total, report)
    _say(total, rounds, began)
    return 0


def _add(total: RoundReport, report: RoundReport) -> None:
    total.kills += report.kills
    total.ends += report.ends


def _failed(report: RoundReport, again: str) -> int:
    print(f"failed: {dict(report.kills)}, then", *report.faults, sep="\n  ")
    print(f"to repeat it: make kills KILLS='{again}'")
    return 1


def _say(total: RoundReport, rounds: int, began: float) -> None:
    kills, ends = _counted(total.kills), _counted(total.ends)
    print(
        f"{total.kills.total()} kills in {rounds} rounds ({kills}), {time.monotonic() - began:.0f} s\n"
        f"  {total.ends.total()} answers: {ends}; none lost, doubled, invented or charged too high; nothing left",
        flush=True,
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
