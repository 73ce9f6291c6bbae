"""Streams that one worker follows, and its own lag: `python -m benchmarks.loadtests`.

A server of fixed bytes on another core sends each stream its events at even times. Requests come by the load tester's
own schedule at a rate at which so many streams run at once.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import trio

from config.model.table import Seconds
from loadtests.model.lengths import Lengths
from loadtests.model.run_record import RunRecord
from loadtests.model.scenario import Arrivals, LoadTarget, RequestKind, Scenario
from loadtests.running.progress import WorkerProgress
from loadtests.running.run import LoadRun


def measured(port: int, arguments: argparse.Namespace, streams: int) -> tuple[RunRecord, float]:
    """The record, and the CPU seconds a second that all workers took while it was measured."""
    life_s = arguments.events * arguments.interval
    scenario = Scenario(
        schema=1,
        duration=Seconds(arguments.seconds + life_s),
        warm_up=Seconds(life_s),
        target=LoadTarget(
            url=f"http://127.0.0.1:{port}", model="chat", one_token_events=True, connections=arguments.connections
        ),
        arrivals=Arrivals(kind="constant", rate=streams / life_s),
        mix=(RequestKind(prompt=Lengths(exactly=20), output=Lengths(exactly=arguments.events)),),
        workers=arguments.workers,
        rows=0,
    )
    seen: list[tuple[float, float]] = []

    def see(_: WorkerProgress) -> None:
        now = time.perf_counter()
        if life_s <= now - run.begun_s <= life_s + arguments.seconds:
            seen.append((now, sum(map(_cpu_s, run.pids))))

    run = LoadRun(scenario, {}, version="", show=see)
    record = trio.run(run.run)
    (begin_s, before_s), (end_s, after_s) = seen[0], seen[-1]
    return record, (after_s - before_s) / max(end_s - begin_s, 1e-9)


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadtests", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[250, 500, 1000], help="at once")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between a stream's events")
    parser.add_argument("--events", type=int, default=250, help="of a stream")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--connections", type=int, default=0, help="opened before the run")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.loadtests.fixed_streams", str(arguments.interval)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            print(
                "| streams | events/s | CPU time of an event, µs | sends late, p50 / p99 / most, ms"
                " | reads late, the same | wrong | within 5 ms |"
            )
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for streams in arguments.streams:
                print(row(*measured(port, arguments, streams), streams), flush=True)
        finally:
            server.terminate()


def row(record: RunRecord, cpu_share: float, streams: int) -> str:
    begin, end = record.header.warm_up_s, record.header.warm_up_s + record.header.measured_s
    windows = [each for each in record.windows if begin <= each.begins_s and each.begins_s + 1 <= end]
    events = sum(each.tokens for each in windows) / max(len(windows), 1)
    lags = [
        " / ".join([f"{histogram.percentile(each) * 1000:.2f}" for each in (50, 99, 100)])
        for histogram in (record.lag.sending, record.lag.reading)
    ]
    bound = record.header.scenario.lag.p99  # the share of the TTFT says nothing where that is half a millisecond
    is_within = all(each.percentile(99) <= bound for each in (record.lag.sending, record.lag.reading))
    within = "yes" if is_within else "no"
    each_us = cpu_share / max(events, 1.0) * 1e6
    return f"| {streams} | {events:,.0f} | {each_us:.1f} | {lags[0]} | {lags[1]} | {record.totals.failed} | {within} |"


if __name__ == "__main__":
    main()
