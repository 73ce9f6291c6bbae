"""Effect of reloads on running streams: python -m benchmarks.reload [--streams N] [--seconds S] [--rounds N].

A server process with all actors and a fake engine that makes a token every 20 ms for each of the SSE streams; this
process reads them and measures the time between arrivals per stream. Windows without reloads alternate with windows in
which a policy of 200 routes is read, checked, compiled and swapped every second, so that noise affects both.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import trio

from actors.service import Service
from benchmarks.gateway.client import Sockets, open_streams
from benchmarks.gateway.fake_engine import FakeEngine
from benchmarks.gateway.service import CONFIG
from config.source import ConfigSource
from engine.zoo.tokenizer import save_tokenizer, train_tokenizer
from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.routes import Routes
from gateway.http.bounds.limits import ServerLimits
from gateway.http.server import Server, listen
from gateway.telemetry.logs import configure_logs
from policies.lifecycle.reload import Swapped

_STEP_S = 0.02
_ROUTES = 200
_ENDLESS_TOKENS = 900_000
_SETTLE_S = 2.0
_PATIENCE_S = 30.0
_EVENT = b"data: {"


def policy(version: int) -> str:
    """A policy with 200 routes that do not match, before the one that the streams use."""
    routes = "".join(
        f'[[routes]]\nname = "r{number}"\nwhen = {{ tag = ["t{number}"], prompt_tokens = {{ at_least = {number} }} }}\n'
        f'use = {{ ladder = "bench" }}\ncaps = {{ output_tokens = {1000 + version} }}\n'
        for number in range(_ROUTES)
    )
    first = CONFIG.index("[[routes]]")
    return CONFIG[:first] + routes + CONFIG[first:]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one window")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each kind")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        trio.run(_serve)
        return
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    command = ["taskset", "-c", str(cores[0])] if apart else []
    if apart:
        os.sched_setaffinity(0, set(cores[1:]))
    command += [sys.executable, "-m", "benchmarks.reload", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            _measure(server, arguments.streams, arguments.seconds, arguments.rounds)
        finally:
            server.terminate()


def _measure(server: "subprocess.Popen[str]", streams: int, seconds: float, rounds: int) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    sockets = open_streams(int(server.stdout.readline()), streams, _ENDLESS_TOKENS)
    _until_all_run(sockets)
    _gaps(sockets, _SETTLE_S)
    figures: dict[str, list[tuple[float, float, float]]] = {"quiet": [], "reloading": []}
    for _ in range(rounds):
        for kind, rows in figures.items():
            server.stdin.write(f"{kind}\n")
            server.stdin.flush()
            gaps = sorted(_gaps(sockets, seconds))
            rows.append((_percentile(gaps, 0.5), _percentile(gaps, 0.99), gaps[-1]))
    server.stdin.write("report\n")
    server.stdin.flush()
    swaps = server.stdout.readline().split()
    sockets.close()
    print(f"{streams} streams, a token every {_STEP_S * 1e3:.0f} ms, {rounds} windows of {seconds:g} s of each kind")
    swap_ms = float(swaps[1]) * 1e3
    print(f"{swaps[0]} swaps of {_ROUTES + 1} routes, {swap_ms:.0f} ms each at the median; no stream was lost")
    for place, name in enumerate(("p50", "p99", "max")):
        quiet, busy = (statistics.median(row[place] for row in rows) * 1e3 for rows in figures.values())
        print(f"between tokens, {name}: quiet {quiet:7.2f} ms, reloading {busy:7.2f} ms, ratio {busy / quiet:.3f}")


def _until_all_run(sockets: Sockets) -> None:
    silent = set(sockets.by_descriptor)
    end = time.perf_counter() + _PATIENCE_S
    while silent:
        if time.perf_counter() > end:
            raise RuntimeError(f"{len(silent)} streams did not begin within {_PATIENCE_S:g} s")
        for descriptor, _ in sockets.epoll.poll(0.1):
            if _EVENT in sockets.by_descriptor[descriptor].recv(1 << 18):
                silent.discard(descriptor)


def _gaps(sockets: Sockets, seconds: float) -> list[float]:
    """Seconds between arrivals on the same stream, of all streams. Raises RuntimeError if a stream ends."""
    last: dict[int, float] = {}
    gaps = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for descriptor, _ in sockets.epoll.poll(0.1):
            data = sockets.by_descriptor[descriptor].recv(1 << 18)
            if not data or b"0\r\n\r\n" in data:
                raise RuntimeError(f"a stream was lost: {data[-300:]!r}")
            if _EVENT in data:
                now = time.perf_counter()
                if descriptor in last:
                    gaps.append(now - last[descriptor])
                last[descriptor] = now
    if len(last) != len(sockets.by_descriptor):
        raise RuntimeError(f"only {len(last)} of {len(sockets.by_descriptor)} streams had tokens in {seconds} s")
    return gaps


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def _serve() -> None:
    configure_logs("error")
    commands: list[str] = []
    threading.Thread(target=lambda: _listen(commands), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "bench.toml"
        model.mkdir()
        save_tokenizer(train_tokenizer(), model, 1 << 20)
        (model / "config.json").write_text('{"eos_token_id": 2}')
        file.write_text(policy(0))
        source = ConfigSource(file)
        service = Service(source.read().settings, {"bench": [lambda _: FakeEngine(_STEP_S, -1)]}, source=source)
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            while not service.readiness().ready:  # noqa: ASYNC110  (as any health probe asks)
                await trio.sleep(0.01)
            limits = ServerLimits(max_connections=5000, heartbeat_s=60)
            routes = Routes(ApiContext(service=service, max_choices=16, max_inputs=16), limits, frozenset())
            server = Server(listen("127.0.0.1", 0), limits, routes)
            await nursery.start(server.run)
            print(server.port, flush=True)
            await _run_commands(service, file, commands)


def _listen(commands: list[str]) -> None:
    for line in sys.stdin:
        commands.append(line.strip())
    # The parent process holds the other end of stdin: when it ends, so does this process.
    os._exit(0)


def _write(file: Path, text: str) -> None:
    file.write_text(text)


async def _run_commands(service: Service, file: Path, commands: list[str]) -> None:
    took: list[float] = []
    version = 0
    while True:
        kind = commands[-1] if commands else "quiet"
        if kind == "reloading":
            version += 1
            _write(file, policy(version % 7))
            began_at = time.perf_counter()
            result = await service.admin.reload()
            if not isinstance(result, Swapped):
                raise TypeError(result)
            took.append(time.perf_counter() - began_at)
            await trio.sleep(1.0)
        elif kind == "report":
            print(len(took), statistics.median(took), flush=True)
            await trio.sleep_forever()
        else:
            await trio.sleep(0.05)


if __name__ == "__main__":
    main()
