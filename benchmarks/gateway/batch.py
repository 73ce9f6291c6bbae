"""What a batch costs interactive requests, and how much of the rest it uses: `python -m benchmarks.gateway.batch`.

A gateway with the embedded models. In each round, one after the other for the same time: interactive requests alone, at
random times; a batch alone; both. The capacity that is left is what the batch reaches alone, times the share of the
time in which no interactive request was being answered: engines on a CPU compute for one or the other. The gateway has
all cores but the last, the client has that.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from benchmarks.cores import apart_from_this
from benchmarks.process_group import ProcessGroup
from benchmarks.upstream.figures import percentile
from gateway.cli.batch.client import BatchClient

_MODEL = "small"
_START_S = 120.0
_WARM_S = 1.0
"""A batch is counted from so long after its beginning on."""
_SETTLE_S = 0.5
_TEXTS = 100_000
"""More than the interactive requests of a phase."""


class Answered(msgspec.Struct):
    """One interactive request: times from the beginning of its phase, in seconds."""

    sent_at: float
    first_at: float
    ended_at: float


class Phase(msgspec.Struct):
    """One phase of a round."""

    interactive: list[Answered] = []
    batch_rate: float = 0.0
    """Requests of the batch per second."""

    def idle_share(self, seconds: float) -> float:
        """Of the time, without an interactive request in progress."""
        busy = end = 0.0
        for each in sorted(self.interactive, key=lambda it: it.sent_at):
            began = max(each.sent_at, end)
            end = max(end, min(each.ended_at, seconds))
            busy += max(end - began, 0.0)
        return 1 - busy / seconds


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """A gateway's port."""
    config = folder / "service.toml"
    text = Path("config/profiles/embedded.toml").read_text(encoding="utf-8")
    root = Path.cwd()
    text = text.replace('"../../engine', f'"{root}/engine').replace(
        '"calibrations/', f'"{root}/config/profiles/calibrations/'
    )
    text = text.replace("port = 8080", "port = 0")
    ledger = json.dumps(str(folder / "ledger.sqlite3"))
    store = json.dumps(str(folder / "batches.sqlite3"))
    config.write_text(f"{text}\n[ledger]\npath = {ledger}\n\n[batch]\nfile = {store}\n\n[log]\nrequests = false\n")
    words = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(config), "--log-level", "warning"]
    with apart_from_this():
        group = ProcessGroup("gateway", words, {}, folder)
    try:
        until = time.monotonic() + _START_S
        while "serving " not in (said := group.log.read_text()):
            if time.monotonic() > until:
                raise SystemExit(f"the gateway did not start: {group.tail()}")
            time.sleep(0.1)
        yield int(said.split("serving ", 1)[1].splitlines()[0].rsplit(":", 1)[1])
    finally:
        group.end()


def body(number: int, tokens: int, words: int = 0) -> dict[str, Any]:
    """A short question after a text of so many numbers, each some three tokens."""
    chance = random.Random(number)
    before = "".join(f"{chance.randrange(1000)} " for _ in range(words))
    return {
        "model": _MODEL,
        "messages": [{"role": "user", "content": f"{before}What is {number % 97} + {number % 89}?"}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
    }


def requests_file(folder: Path, requests: int, tokens: int) -> Path:
    path = folder / "requests.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(requests):
            line = {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body(number, tokens),
            }
            file.write(json.dumps(line) + "\n")
    return path


async def ask(port: int, asked: dict[str, Any], began: float, to: list[Answered]) -> None:
    """One streamed request."""
    data = json.dumps({**asked, "stream": True}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    sent_at = trio.current_time() - began
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(head.encode() + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(data) + data)
        first_at, seen = 0.0, b""
        async for part in stream:
            seen += part
            if not first_at and b'"content":"' in seen.replace(b'"content":""', b""):
                first_at = trio.current_time() - began
    if b"[DONE]" in seen and first_at:
        to.append(Answered(sent_at, first_at, trio.current_time() - began))


async def interactive(
    port: int, seconds: float, arguments: argparse.Namespace, seed: int, first: int
) -> list[Answered]:
    """Requests at random times, whatever the server does. `first`: number of the first; no cache knows their texts."""
    chance, rate = random.Random(seed), arguments.rate
    answered: list[Answered] = []
    async with trio.open_nursery() as nursery:
        began = trio.current_time()
        at, number = chance.expovariate(rate), first
        while at < seconds:
            await trio.sleep_until(began + at)
            nursery.start_soon(ask, port, body(number, arguments.tokens, arguments.words), began, answered)
            at, number = at + chance.expovariate(rate), number + 1
        await trio.sleep_until(began + seconds)
    return answered


class RunningBatch:
    """A batch that is begun and cancelled."""

    def __init__(self, client: BatchClient, file_id: str) -> None:
        self._client = client
        self._id = str(client.create(file_id, "/v1/chat/completions")["id"])
        while client.batch(self._id)["status"] == "validating":
            time.sleep(0.05)
        time.sleep(_WARM_S)
        self._began, self._at_first = time.monotonic(), self._done()

    def _done(self) -> int:
        batch = self._client.batch(self._id)
        if batch["status"] != "in_progress":
            raise SystemExit("the batch was over before the round: give it more --requests")
        counts = batch["request_counts"]
        return int(counts["completed"] + counts["failed"])

    def end(self) -> float:
        """Requests per second since it was begun."""
        done, now = self._done(), time.monotonic()
        self._client.cancel(self._id)
        while self._client.batch(self._id)["status"] != "cancelled":
            time.sleep(0.05)
        time.sleep(_SETTLE_S)
        return (done - self._at_first) / (now - self._began)


def one_round(client: BatchClient, file_id: str, port: int, arguments: argparse.Namespace, number: int) -> list[Phase]:
    """Interactive requests alone, the batch alone, both."""

    def ask_all(first: int) -> list[Answered]:
        return trio.run(interactive, port, arguments.seconds, arguments, number, first)

    alone = Phase(ask_all((2 * number + 1) * _TEXTS))
    time.sleep(_SETTLE_S)
    batch = RunningBatch(client, file_id)
    time.sleep(arguments.seconds)
    batch_alone = Phase(batch_rate=batch.end())
    batch = RunningBatch(client, file_id)
    both = Phase(ask_all((2 * number + 2) * _TEXTS))
    both.batch_rate = batch.end()
    return [alone, batch_alone, both]


def _ttft_ms(phases: list[Phase], share: float) -> float:
    return 1000 * percentile([each.first_at - each.sent_at for phase in phases for each in phase.interactive], share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000, help="of a batch")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--words", type=int, default=150, help="of an interactive prompt, before its question")
    parser.add_argument("--rate", type=float, default=4.0, help="interactive requests per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder) as port:
            client = BatchClient(f"http://127.0.0.1:{port}", None)
            file_id = client.upload(requests_file(folder, arguments.requests, arguments.tokens))
            trio.run(interactive, port, _WARM_S, arguments, 0, 0)
            rounds = [one_round(client, file_id, port, arguments, number) for number in range(arguments.rounds)]
    alone, batch_alone, both = ([each[place] for each in rounds] for place in range(3))
    print("| interactive requests | answered | TTFT p50, ms | TTFT p99, ms | time without one |")
    print("| --- | --- | --- | --- | --- |")
    for title, phases in (("alone", alone), ("beside a batch", both)):
        idle = sum([phase.idle_share(arguments.seconds) for phase in phases]) / len(phases)
        count = sum([len(phase.interactive) for phase in phases])
        figures = f"{_ttft_ms(phases, 0.5):.1f} | {_ttft_ms(phases, 0.99):.1f} | {idle:.0%}"
        print(f"| {title} | {count} | {figures} |")
    reached = sum([phase.batch_rate for phase in both]) / len(both)
    whole = sum([phase.batch_rate for phase in batch_alone]) / len(batch_alone)
    left = sum(
        [each.batch_rate * phase.idle_share(arguments.seconds) for each, phase in zip(batch_alone, alone, strict=True)]
    ) / len(alone)
    print(f"\nthe batch: {whole:.1f} requests/s alone, {reached:.1f} beside interactive requests")
    print(f"left for it: {left:.1f} requests/s, of which it used {reached / left if left else 0:.0%}")


if __name__ == "__main__":
    main()
