"""Command: python -m benchmarks.gateway [--json] [--rounds N] [--seconds S] [--kinds fixed,edge,service].

Each server runs in a process of its own on one core, the client on another. The kinds are interleaved over `rounds`
rounds, and the medians are printed, so that noise on the machine affects all of them.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks.gateway.client import Window, first_event_times, open_streams, read_streams, small_requests
from benchmarks.gateway.serve import KINDS, SILENT_TOKENS

_ENDLESS_TOKENS = 900_000
_PACED_STREAMS, _PACED_STEP_S = 100, 0.02
_OFFERED_EVENTS_PER_S = 150_000


class Row(msgspec.Struct):
    """One figure per kind."""

    name: str
    unit: str
    values: dict[str, float]


class Server:
    """A server process on one core."""

    def __init__(self, kind: str, core: int | None, step_s: float, engine_step_s: float) -> None:
        command = [sys.executable, "-m", "benchmarks.gateway.serve", kind]
        command += ["--step-s", str(step_s), "--engine-step-s", str(engine_step_s)]
        if core is not None:
            command += ["--core", str(core)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def cpu_s(self) -> float:
        """User and system time of all its threads."""
        fields = self._proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Resident memory."""
        return int(self._proc("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()


@contextlib.contextmanager
def server(kind: str, core: int | None, step_s: float = 0.0, engine_step_s: float = 0.0) -> Iterator[Server]:
    """A server that is ended with the context."""
    running = Server(kind, core, step_s, engine_step_s)
    try:
        yield running
    finally:
        running.end()


class Sizes(msgspec.Struct, frozen=True):
    """Amounts to measure."""

    seconds: float
    first_events: int
    streams: list[int]
    """Small, medium and large number; CPU time is reported for the medium one."""
    idle_streams: int


def measure(kind: str, sizes: Sizes, core: int | None) -> dict[tuple[str, str], float]:
    """All figures of one kind, measured once."""
    seconds = sizes.seconds
    figures: dict[tuple[str, str], float] = {}
    with server(kind, core) as running:
        small_requests(running.port, connections=16, seconds=0.3)
        cpu_s = running.cpu_s()
        window = small_requests(running.port, connections=16, seconds=seconds)
        figures["small completions, 16 connections", "1/s"] = window.events / window.seconds
        figures["CPU a small completion", "µs"] = 1e6 * (running.cpu_s() - cpu_s) / window.events
        times = sorted(first_event_times(running.port, sizes.first_events))
        figures["first event, p50", "ms"] = 1000 * times[len(times) // 2]
        figures["first event, p99", "ms"] = 1000 * times[len(times) * 99 // 100]
    for streams in dict.fromkeys(sizes.streams):
        # Without a pause the fake engine would mainly contend for the GIL; this offers more events than can be sent.
        with server(kind, core, engine_step_s=streams / _OFFERED_EVENTS_PER_S) as running:
            counted, cpu_s = _streams(running, streams, seconds)
            figures[f"SSE events, {streams} streams", "1/s"] = counted.events / counted.seconds
            if streams == sizes.streams[1]:
                figures["CPU an event, saturated", "µs"] = 1e6 * cpu_s / counted.events
    with server(kind, core, _PACED_STEP_S, _PACED_STEP_S) as running:
        counted, cpu_s = _streams(running, _PACED_STREAMS, seconds)
        paced = f"{_PACED_STREAMS} streams × {1 / _PACED_STEP_S:.0f}/s"
        figures[f"SSE events, {paced}", "1/s"] = counted.events / counted.seconds
        figures[f"CPU an event, {paced}", "µs"] = 1e6 * cpu_s / counted.events
    with server(kind, core) as running:
        first_event_times(running.port, 20)
        before = running.resident_bytes()
        sockets = open_streams(running.port, sizes.idle_streams, SILENT_TOKENS)
        read_streams(sockets, 1.0)
        figures["memory a silent stream", "KiB"] = (running.resident_bytes() - before) / sizes.idle_streams / 1024
        sockets.close()
    return figures


def _streams(running: Server, streams: int, seconds: float) -> tuple[Window, float]:
    """Events in the window, and the server's CPU time for them."""
    sockets = open_streams(running.port, streams, _ENDLESS_TOKENS)
    read_streams(sockets, 0.3)
    cpu_s = running.cpu_s()
    counted = read_streams(sockets, seconds)
    cpu_s = running.cpu_s() - cpu_s
    sockets.close()
    return counted, cpu_s


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--streams", type=int, nargs=3, default=[1, 32, 200])
    parser.add_argument("--idle-streams", type=int, default=500)
    parser.add_argument("--first-events", type=int, default=300)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    kinds = [kind for kind in KINDS if kind in arguments.kinds.split(",")]
    sizes = Sizes(arguments.seconds, arguments.first_events, arguments.streams, arguments.idle_streams)
    cores = sorted(os.sched_getaffinity(0))
    server_core = cores[0] if len(cores) > 1 else None
    if server_core is not None:
        os.sched_setaffinity(0, {cores[1]})
    samples: dict[str, list[dict[tuple[str, str], float]]] = {kind: [] for kind in kinds}
    for number in range(arguments.rounds):
        for kind in kinds:
            print(f"round {number + 1} of {arguments.rounds}: {kind}", file=sys.stderr, flush=True)
            samples[kind].append(measure(kind, sizes, server_core))
    names = list(samples[kinds[0]][0])
    rows = [
        Row(*name, {kind: statistics.median([sample[name] for sample in samples[kind]]) for kind in kinds})
        for name in names
    ]
    load = os.getloadavg()[0]
    if arguments.json:
        print(msgspec.json.encode({"rows": rows, "rounds": arguments.rounds, "load_average": load}).decode())
        return
    print(f"{'':<42}{'':<6}" + "".join([f"{kind:>12}" for kind in kinds]))
    for row in rows:
        print(
            f"{row.name:<42}{row.unit:<6}"
            + "".join(
                [
                    f"{row.values[kind]:>12,.4g}" if row.values[kind] < 100 else f"{row.values[kind]:>12,.0f}"
                    for kind in kinds
                ]
            )
        )
    print(f"medians of {arguments.rounds}; load average {load:.1f}")


if __name__ == "__main__":
    main()
