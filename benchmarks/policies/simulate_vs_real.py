"""A short trace against Penstock with the embedded models over HTTP in real time, and the same trace simulated.

    python -m benchmarks.policies.simulate_vs_real [--profile FILE] [--seconds 60] [--rate 8] [--keep FOLDER]

It measures the step costs (unless a profile is given), serves the traffic with `--record`, simulates the recording and
prints TTFT, shed share and rung share of both. The machine must be quiet, and is the client's machine, too.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import trio

from config.load import load_settings
from gateway.simulation.compare import simulate
from gateway.simulation.profile import read_profile
from gateway.simulation.report import Report, quantiles
from policies.trace import read_trace

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
WORDS = ("seven", "plus", "nine", "the", "sum", "of", "list", "sort", "name", "what", "is", "count", "letters", "city")


class Ask(msgspec.Struct, frozen=True):
    at: float
    model: str
    text: str
    tokens: int


class Seen(msgspec.Struct, frozen=True):
    status: int
    ttft_s: float | None
    rung: str


def asks(seconds: float, rate: float, seed: int) -> list[Ask]:
    """Arrivals by chance, at twice the rate in every third part of the time: queues fill, and empty again."""
    rng = Random(seed)
    at, found = 0.0, []
    while at < seconds:
        words = rng.choice([8, 30, 120])
        text = " ".join(rng.choice(WORDS) for _ in range(words))
        model = rng.choices(["penstock", "large", "small"], [6, 2, 2])[0]
        found.append(Ask(at, model, text, rng.choice([80, 200, 400])))
        at += rng.expovariate(rate * (2.0 if int(at / 5) % 3 == 2 else 0.7))
    return found


async def ask(port: int, request: Ask, began: float, seen: list[Seen | None], place: int) -> None:
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
    sent = trio.current_time()
    said, first = b"", None
    async with await trio.open_tcp_stream("127.0.0.1", port) as connection:
        await connection.send_all(head.encode() + body)
        while piece := await connection.receive_some(65536):
            said += piece
            if first is None and b'"content":"' in piece:
                first = trio.current_time() - sent
    status = int(said[9:12] or b"0")
    rung = re.search(rb'"penstock":\{"route":"[^"]*","rung":"([^"]*)"', said)
    seen[place] = Seen(status, first, rung.group(1).decode() if rung else "")


async def serve(config: Path, record: Path, requests: list[Ask]) -> list[Seen]:
    command = [sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), "--port", "0"]
    command += ["--record", str(record), "--log-level", "error"]
    seen: list[Seen | None] = [None] * len(requests)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        said = b""
        async for piece in process.stdout:
            said += piece
            if match := re.search(rb"serving .* on http://\S+:(\d+)", said):
                break
        port = int(match.group(1))
        for model in ("small", "large", "penstock"):
            await ask(port, Ask(0, model, "warm up", 8), trio.current_time(), [None], 0)
        began = trio.current_time() + 0.5
        async with trio.open_nursery() as clients:
            for place, request in enumerate(requests):
                clients.start_soon(ask, port, request, began, seen, place)
        process.terminate()
    return [each for each in seen if each is not None]


def simulated(config: Path, record: Path, profile: Path) -> Report:
    """The recording, without the three requests that warmed up; of what was refused, as long as was asked for."""
    trace = read_trace(record)[3:]
    begin = trace[0].at
    replace = msgspec.structs.replace
    trace = tuple([replace(each, at=each.at - begin, output_tokens=each.max_tokens) for each in trace])
    known = [each for each in trace if each.margins]
    share = sum(min(each.margins) < 0.02 for each in known) / max(len(known), 1)
    comparison = simulate(
        {"simulated": load_settings(config)},
        read_profile(profile),
        trace,
        trace_name=record.name,
        profile_name=profile.name,
        seed=0,
        speed=1.0,
        shares={"thrifty": share},
        progress=lambda _: None,
    )
    return comparison.reports[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep configuration, profile and recording there")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    config, record = folder / "policy.toml", folder / "recording.jsonl"
    record.unlink(missing_ok=True)
    config.write_text(CONFIG.format(models=MODELS))
    profile = arguments.profile or folder / "profile.json"
    if arguments.profile is None:
        command = [sys.executable, "-m", "gateway.cli", "engine", "profile", "--config", str(config)]
        subprocess.run([*command, "--out", str(profile)], check=True)
    requests = asks(arguments.seconds, arguments.rate, arguments.seed)
    print(f"{len(requests)} requests over {arguments.seconds:g} s; load {Path('/proc/loadavg').read_text().strip()}")
    real = trio.run(serve, config, record, requests)
    report = simulated(config, record, profile)
    good = [each for each in real if each.status == 200]
    ttft = quantiles([each.ttft_s for each in good if each.ttft_s is not None])
    rows = [
        ("TTFT p50 ms", 1000 * (ttft.p50 or 0), 1000 * (report.ttft_s.p50 or 0)),
        ("TTFT p99 ms", 1000 * (ttft.p99 or 0), 1000 * (report.ttft_s.p99 or 0)),
        ("shed share %", 100 * (1 - len(good) / len(real)), 100 * (1 - report.answered / report.requests)),
        ("answered by large %", 100 * sum(e.rung == "large" for e in good) / len(good), 100 * report.rungs["large"]),
    ]
    print(f"load afterwards {Path('/proc/loadavg').read_text().strip()}\n")
    print("| | real | simulated | ratio | within 20 % |\n| --- | ---: | ---: | ---: | --- |")
    within = True
    for name, was, came in rows:
        ratio = came / was if was else float(came == was)
        within = within and 0.8 <= ratio <= 1.2
        print(f"| {name} | {was:.1f} | {came:.1f} | {ratio:.2f} | {'yes' if 0.8 <= ratio <= 1.2 else 'no'} |")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
