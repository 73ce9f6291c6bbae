"""Compare a run of Penstock with the embedded models over HTTP in real time with a simulation of the same trace.

    python -m benchmarks.policies.simulate_vs_real [--profile FILE] [--seconds 60] [--rate 16] [--runs 3] [--keep DIR]

Each run measures the step costs (unless a profile is given), serves the traffic with `--record`, and simulates the
recording, because a machine's speed changes within minutes, and two runs of the same arrivals differ. Prints the
medians of TTFT, shed share and rung share of both; those of the real runs are from the server's recording, so that the
client's delays are not included. The machine must be otherwise idle, and also runs the client.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import median

import msgspec
import trio

from config.load import load_settings
from gateway.profiling.profile import read_profile
from gateway.simulation.compare import simulate
from gateway.simulation.report import quantiles
from policies.records.trace import TraceRequest, read_trace

CONFIG = """\
schema = 1
[ledger]
path = ":memory:"
[engines.small]
model = "{models}/small"
max_running = 2
[engines.large]
model = "{models}/large"
max_running = 2
[models.penstock]
[models.small]
[models.large]
[tiers.default]
slo = {{ ttft = "500ms", itl = "60ms" }}
queue = {{ wait = "1s", requests = 4, tokens = 100_000 }}
[[routes]]
name = "small"
when = {{ model = ["small"] }}
use = {{ ladder = "small" }}
[[routes]]
name = "large"
when = {{ model = ["large"] }}
use = {{ ladder = "large" }}
[[routes]]
name = "penstock"
use = {{ cascade = "thrifty" }}
[cascades.thrifty]
stages = ["small", "large"]
defer = {{ threshold = 0.02 }}
emit = {{ mode = "window", window = 4 }}
on_failure = "large"
[[ladders.small]]
to = "small"
[[ladders.large]]
to = "large"
"""
MODELS = Path(__file__).parents[2] / "engine/zoo/models"
_WARM_UP = ("small", "large", "penstock")
WORDS = ("seven", "plus", "nine", "the", "sum", "of", "list", "sort", "name", "what", "is", "count", "letters", "city")


Figures = tuple[float, float, float, float]
"""See `measures`."""


class TimedRequest(msgspec.Struct, frozen=True):
    at: float
    model: str
    text: str
    tokens: int


def arrivals(seconds: float, rate: float, seed: int) -> list[TimedRequest]:
    """Poisson arrivals, by default about twice as many as can be served.

    TTFT and shed share then follow from the speed of the engines and the lengths of the queues. At a load near
    capacity, a small error in the speed would decide whether the median request waits at all.
    """
    rng = Random(seed)
    at, requests = 0.0, []
    while at < seconds:
        words = rng.choice([8, 30, 120])
        text = " ".join(rng.choice(WORDS) for _ in range(words))
        model = rng.choices(["penstock", "large", "small"], [6, 2, 2])[0]
        requests.append(TimedRequest(at, model, text, rng.choice([80, 200, 400])))
        at += rng.expovariate(rate)
    return requests


async def send(port: int, request: TimedRequest, began: float) -> None:
    """Send a request at its time, and read the response; results are taken from the server's recording."""
    await trio.sleep_until(began + request.at)
    body = msgspec.json.encode(
        {
            "model": request.model,
            "stream": True,
            "temperature": 0,
            "ignore_eos": True,
            "max_tokens": request.tokens,
            "messages": [{"role": "user", "content": request.text}],
        }
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(head.encode() + body)
        while await connection.receive_some(65536):
            pass


async def serve(config: Path, record: Path, requests: list[TimedRequest]) -> None:
    command = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(config), "--port", "0"]
    command += ["--record", str(record), "--log-level", "error"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        output, match = b"", None
        async for piece in process.stdout:
            output += piece
            if match := re.search(rb"serving .* on http://\S+:(\d+)", output):
                break
        if match is None:
            raise SystemExit(f"the server ended before it served: {output.decode(errors='replace')}")
        port = int(match.group(1))
        for model in _WARM_UP:
            await send(port, TimedRequest(0, model, "warm up", 8), trio.current_time())
        began = trio.current_time() + 0.5
        async with trio.open_nursery() as clients:
            for request in requests:
                clients.start_soon(send, port, request, began)
        process.terminate()


def recorded(config: Path, record: Path, requests: list[TimedRequest]) -> tuple[TraceRequest, ...]:
    """The server's recording of one run, without the warm-up requests."""
    record.unlink(missing_ok=True)
    trio.run(serve, config, record, requests)
    trace = read_trace(record)[len(_WARM_UP) :]
    if len(trace) != len(requests):
        sys.exit(f"{record} holds {len(trace)} of {len(requests)} requests")
    return trace


def measures(requests: Sequence[TraceRequest]) -> Figures:
    """TTFT p50 and p99 in ms; shares of refused requests, and of answers by the large model, in %."""
    good = [request for request in requests if request.rung]
    ttft = quantiles([request.ttft_s for request in good if request.ttft_s is not None])
    large = sum(request.rung == "large" for request in good)
    refused = 100 * (1 - len(good) / len(requests))
    return 1000 * (ttft.p50 or 0), 1000 * (ttft.p99 or 0), refused, 100 * large / max(len(good), 1)


def shown(figures: Figures) -> str:
    return ", ".join([f"{figure:.1f}" for figure in figures])


def simulated(config: Path, trace: tuple[TraceRequest, ...], profile: Path) -> Figures:
    """Simulate the recording; every answer, including refused ones, has its requested length."""
    begin = trace[0].at
    replace = msgspec.structs.replace
    trace = tuple([replace(request, at=request.at - begin, output_tokens=request.max_tokens) for request in trace])
    known = [request for request in trace if request.margins]
    share = sum(min(request.margins) < 0.02 for request in known) / max(len(known), 1)
    comparison = simulate(
        {"simulated": load_settings(config)},
        read_profile(profile),
        trace,
        trace_name="recording",
        profile_name=profile.name,
        seed=0,
        speed=1.0,
        shares={"thrifty": share},
        progress=lambda _: None,
    )
    report = comparison.reports[0]
    return (
        1000 * (report.ttft_s.p50 or 0),
        1000 * (report.ttft_s.p99 or 0),
        100 * (1 - report.answered / report.requests),
        100 * report.rungs["large"],
    )


def one_round(
    config: Path, folder: Path, number: int, requests: list[TimedRequest], profile: Path | None
) -> tuple[Figures, Figures]:
    """(real, simulated)."""
    if profile is None:
        profile = folder / f"profile-{number}.json"
        command = [sys.executable, "-m", "gateway.cli.main", "engine", "profile", "--config", str(config)]
        subprocess.run([*command, "--out", str(profile)], check=True)
    trace = recorded(config, folder / f"recording-{number}.jsonl", requests)
    return measures(trace), simulated(config, trace, profile)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=16.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep configuration, profiles and recordings there")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "policy.toml"
    config.write_text(CONFIG.format(models=MODELS))
    requests = arrivals(arguments.seconds, arguments.rate, arguments.seed)
    print(f"{len(requests)} requests over {arguments.seconds:g} s; load {Path('/proc/loadavg').read_text().strip()}")
    rounds = []
    for number in range(1, arguments.runs + 1):
        rounds.append(one_round(config, folder, number, requests, arguments.profile))
        real, came = rounds[-1]
        print(f"round {number}: real {shown(real)}; simulated {shown(came)}", flush=True)
    print(f"load afterwards {Path('/proc/loadavg').read_text().strip()}\n")
    print("| | real | simulated | ratio | within 20 % |\n| --- | ---: | ---: | ---: | --- |")
    within = True
    for place, name in enumerate(("TTFT p50 ms", "TTFT p99 ms", "shed share %", "answered by large %")):
        real, came = (median(figures[place] for figures in side) for side in zip(*rounds, strict=True))
        ratio = came / real if real else float(came == real)
        fits = 0.8 <= ratio <= 1.2
        within = within and fits
        print(f"| {name} | {real:.1f} | {came:.1f} | {ratio:.2f} | {'yes' if fits else 'no'} |")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
