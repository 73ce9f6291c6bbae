"""Penstock as a gateway in front of another server, beside other gateways: python -m benchmarks.upstream.

    python -m benchmarks.upstream [--gateways penstock litellm portkey smg relay] [--cells whole streams ...]
                                  [--rounds 3] [--seconds 5] [--tiny] [--no-install] [--json FILE]

Every gateway, with all its processes, is on one core; the clients and the scripted upstream behind the gateways are one
process on another core. All gateways run at once, but are stopped by a signal except while they are measured; cells and
rounds are interleaved, so that noise on the machine affects all of them. What is absent is skipped with a reason.
"""

import argparse
import contextlib
import gc
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.upstream.cells import CELLS, Cell
from benchmarks.upstream.figures import TINY, Sizes
from benchmarks.upstream.gateways import GATEWAYS, GatewayAbsentError
from benchmarks.upstream.install import INSTALLERS, PEERS, install
from benchmarks.upstream.load_loop import LoadLoop
from benchmarks.upstream.profiling import profile
from benchmarks.upstream.report import Record, Report
from benchmarks.upstream.scripted_upstream import ScriptedUpstream
from benchmarks.upstream.speed_cells import warm_up
from benchmarks.upstream.stand import CellFailedError, Setting, Stand
from engine.bench import machine

_MOST_STARTS = 4
"""Of one gateway, beside those for cells that need a fresh one."""


def main(words: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the gateways end, too
    arguments = _parser().parse_args(words)
    sizes = TINY if arguments.tiny else Sizes()
    for name in ("seconds", "memory_requests", "search_most"):
        if (value := getattr(arguments, name)) is not None:
            sizes = msgspec.structs.replace(sizes, **{name: value})
    _allow_descriptors()
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    report = Report(machine=machine(), pinned=pinned, load_average=[os.getloadavg()[0]])
    report.titles = {name: CELLS[name].title.format(sizes=sizes) for name in arguments.cells}
    with tempfile.TemporaryDirectory() as job, contextlib.ExitStack() as stack:
        load = LoadLoop()
        stack.callback(load.close)
        upstream = ScriptedUpstream(load)
        stack.callback(upstream.close)
        core = cores[0] if pinned else None
        setting = Setting(load, upstream, arguments.peers, Path(job), core, arguments.start_s)
        names = _installed(report, ["py-spy"] if arguments.profile else arguments.gateways, arguments)
        if pinned:
            stack.callback(os.sched_setaffinity, 0, cores)
            os.sched_setaffinity(0, {cores[1]})
        if arguments.profile:
            return profile(setting, arguments.profile, CELLS[arguments.profile], sizes)
        bench = Bench(setting, sizes, report, names)
        stack.callback(bench.end)
        bench.start()
        for turn in range(arguments.rounds):
            for cell in arguments.cells:
                bench.measure(cell, CELLS[cell], turn)
                if arguments.json:
                    report.save(arguments.json)
    report.load_average.append(os.getloadavg()[0])
    if arguments.json:
        report.save(arguments.json)
    print(report.table())
    return 0 if report.records else 1


class Bench:
    """The gateways that are measured in turns."""

    def __init__(self, setting: Setting, sizes: Sizes, report: Report, names: list[str]) -> None:
        self._setting = setting
        self._sizes = sizes
        self._report = report
        self._names = names
        self._stands: dict[str, Stand] = {}
        self._starts = dict.fromkeys(names, 0)

    def start(self) -> None:
        """Start all of them; those that do not answer are left out."""
        for name in list(self._names):
            self._start(name)

    def end(self) -> None:
        for stand in self._stands.values():
            stand.end()

    def measure(self, name: str, cell: Cell, turn: int) -> None:
        """One cell of all gateways; each round begins with another one."""
        names = self._names
        first = turn % max(len(names), 1)
        for gateway in names[first:] + names[:first]:
            print(f"round {turn + 1}: {name}: {gateway}", file=sys.stderr, flush=True)
            try:
                stand = self._stand(gateway, fresh=cell.fresh)
            except GatewayAbsentError as reason:
                self._leave_out(gateway, str(reason))
                continue
            gc.collect()
            gc.disable()
            try:
                figures = cell.run(stand, self._sizes)
            except CellFailedError as reason:
                self._report.failed.append(f"{gateway}, {name}, round {turn + 1}: {reason}")
                print(self._report.failed[-1], file=sys.stderr, flush=True)
            else:
                self._report.records.append(Record(gateway, name, turn, figures))
            finally:
                gc.enable()
            if cell.fresh:
                stand.end()
            settled = stand.settle()
            if not cell.fresh and (stand.ended or not settled):
                self._stands.pop(gateway).end()
                stand.settle()
            else:
                stand.pause()

    def _stand(self, gateway: str, *, fresh: bool) -> Stand:
        """A gateway that runs. Raises `GatewayAbsentError`."""
        if fresh:
            return Stand(gateway, self._setting)
        if gateway not in self._stands:
            self._start(gateway)
        if gateway not in self._stands:
            raise GatewayAbsentError(self._report.absent[gateway])
        self._stands[gateway].resume()
        return self._stands[gateway]

    def _start(self, name: str) -> None:
        """Start one, and let it warm up."""
        self._starts[name] += 1
        if self._starts[name] > _MOST_STARTS:
            self._leave_out(name, f"was started {_MOST_STARTS} times, and ended or hung in its cells")
            return
        try:
            stand = Stand(name, self._setting)
        except GatewayAbsentError as reason:
            self._leave_out(name, str(reason))
            return
        try:
            warm_up(stand, self._sizes)
        except CellFailedError as reason:
            stand.end()
            self._leave_out(name, f"failed in its warm-up: {reason}")
            return
        except BaseException:
            stand.end()
            raise
        stand.pause()
        self._stands[name] = stand
        self._report.versions[name] = stand.version
        print(f"{name} answers", file=sys.stderr, flush=True)

    def _leave_out(self, name: str, reason: str) -> None:
        """Stop measuring this gateway; earlier results are kept."""
        if name in self._names:
            self._names.remove(name)
        self._report.absent[name] = reason
        print(f"{name} is skipped: {reason}", file=sys.stderr, flush=True)


def _installed(report: Report, names: list[str], arguments: argparse.Namespace) -> list[str]:
    """The gateways without those whose installation failed."""
    there = []
    for name in names:
        if name in INSTALLERS and not arguments.no_install:
            print(f"{name}: installing under {arguments.peers / name}, if it is not there", file=sys.stderr, flush=True)
            try:
                install(name, arguments.peers)
            except GatewayAbsentError as reason:
                report.absent[name] = str(reason)
                print(f"{name} is skipped: {reason}", file=sys.stderr, flush=True)
                continue
        there.append(name)
    return there


def _allow_descriptors() -> None:
    """As many open files as the system permits, here and for the gateways."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gateways", nargs="+", choices=GATEWAYS, default=list(GATEWAYS))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each measured span (default: 5)")
    parser.add_argument("--memory-requests", type=int, help="of the memory cell (default: 50,000)")
    parser.add_argument("--search-most", type=int, help="streams at most in the cell `most` (default: 4,000)")
    parser.add_argument("--tiny", action="store_true", help="to see that everything works; the figures say nothing")
    parser.add_argument("--no-install", action="store_true", help="measure only what is installed already")
    parser.add_argument("--peers", type=Path, default=PEERS, help="where the peers are installed")
    parser.add_argument("--start-s", type=float, default=120.0, help="how long a gateway may take to answer")
    parser.add_argument("--json", type=Path, help="write every record there")
    parser.add_argument("--profile", choices=CELLS, metavar="CELL", help="profile Penstock alone in this cell (py-spy)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
