"""The command line of the comparison: what is installed, which core is whose, and what is printed."""

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.upstream.bench import Bench
from benchmarks.upstream.cells.all_cells import CELLS
from benchmarks.upstream.figures import TINY, Sizes
from benchmarks.upstream.gateways.gateways import GATEWAYS, GatewayAbsentError
from benchmarks.upstream.gateways.install import INSTALLERS, PEERS, install
from benchmarks.upstream.gateways.profiling import profile
from benchmarks.upstream.load.load_loop import LoadLoop
from benchmarks.upstream.load.scripted_upstream import ScriptedUpstream
from benchmarks.upstream.report import Report
from benchmarks.upstream.stand import Setting
from engine.bench import machine


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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.upstream", description="Penstock in front of another server, beside other gateways."
    )
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
