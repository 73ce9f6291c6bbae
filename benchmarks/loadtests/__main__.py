"""Streams that one worker follows, and its own lag: `python -m benchmarks.loadtests`.

A server of fixed bytes on another core sends each stream its events at even times. Requests come by the load tester's
own schedule at a rate at which so many streams run at once.
"""

import argparse
import subprocess
import sys

import trio

from config.model.table import Seconds
from loadtests.model.lengths import Lengths
from loadtests.model.run_record import RunRecord
from loadtests.model.scenario import Arrivals, LoadTarget, RequestKind, Scenario
from loadtests.running.run import LoadRun


def measured(port: int, arguments: argparse.Namespace, streams: int) -> RunRecord:
    life_s = arguments.events * arguments.interval
    scenario = Scenario(
        schema=1,
        duration=Seconds(arguments.seconds + life_s),
        warm_up=Seconds(life_s),
        target=LoadTarget(url=f"http://127.0.0.1:{port}", model="chat", one_token_events=True),
        arrivals=Arrivals(kind="constant", rate=streams / life_s),
        mix=(RequestKind(prompt=Lengths(exactly=20), output=Lengths(exactly=arguments.events)),),
        workers=arguments.workers,
        rows=0,
    )
    return trio.run(LoadRun(scenario, {}, version="").run)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadtests", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[250, 500, 1000], help="at once")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between a stream's events")
    parser.add_argument("--events", type=int, default=250, help="of a stream")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "benchmarks.loadtests.fixed_streams", str(arguments.interval)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            print("| streams | events/s | sends late, p50 / p99 / most, ms | reads late, the same | wrong | valid |")
            print("| --- | --- | --- | --- | --- | --- |")
            for streams in arguments.streams:
                print(row(measured(port, arguments, streams), streams), flush=True)
        finally:
            server.terminate()


def row(record: RunRecord, streams: int) -> str:
    begin, end = record.header.warm_up_s, record.header.warm_up_s + record.header.measured_s
    windows = [each for each in record.windows if begin <= each.begins_s and each.begins_s + 1 <= end]
    events = sum(each.tokens for each in windows) / max(len(windows), 1)
    lags = [
        " / ".join([f"{histogram.percentile(each) * 1000:.2f}" for each in (50, 99, 100)])
        for histogram in (record.lag.sending, record.lag.reading)
    ]
    valid = "yes" if record.verdict.valid else "no"
    return f"| {streams} | {events:,.0f} | {lags[0]} | {lags[1]} | {record.totals.failed} | {valid} |"


if __name__ == "__main__":
    main()
