"""Two engines at full load in one process, with several assignments of cores: throughput and event loop latency.

    python -m benchmarks.engine.several [--pair SMALL_DIR LARGE_DIR] [--seconds 4] [--plans free-1,turns-1] [--json]

Each engine always has `--streams` sequences in progress, in its own thread as in the service; its reports are handled
in the event loop. A task of the loop sleeps for 2 ms repeatedly: its delay is the loop's lateness. A plan is `free` (no
limit) or `turns` (time slices, one engine at a time), and the threads per engine; `alone` runs the engines one after
the other.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from random import Random
from time import perf_counter

import msgspec
import trio

from actors.kernel.thread_bridge import NICE, ThreadBridge, TimeSlices
from config.model.settings import EngineSettings
from engine.core.engine import Engine
from engine.core.loop import StepLoop, Stop
from engine.messages import Command, EngineFailed, SequenceOutput, StepReport, Submit, TokenDelta
from engine.sampling.params import SamplingParams
from engine.threads import prepare_environment
from engine.zoo.train import MODELS

_NAP_S = 0.002
_WARM_S = 0.7
Post = Engine | StepReport | EngineFailed


class Figures(msgspec.Struct, frozen=True):
    """Results of one engine under one plan."""

    plan: str
    model: str
    tokens_per_s: float
    itl_ms: tuple[float, float]
    """p50, p99"""
    ttft_ms: tuple[float, float]
    lateness_ms: tuple[float, float, float]
    """p50, p99, maximum; of the event loop that both engines share."""


class Client:
    """Keeps one engine busy, and records when the event loop receives its tokens."""

    def __init__(self, model: Path, threads: int, streams: int, turns: TimeSlices | None, nice: int) -> None:
        self.model = model
        self.ready = trio.Event()
        self.tokens = 0
        self.gaps: list[float] = []
        self.ttft: list[float] = []
        self.noting = False
        self._rng = Random(0)
        self._next = 0
        self._last_at: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        settings = EngineSettings(model=model, threads=threads, max_running=streams)
        turn = turns.join() if turns is not None else None

        def body(inbox: "SimpleQueue[Command | Stop]", post: Callable[[Post], None]) -> None:
            engine = Engine.load(settings, model.name)
            post(engine)
            StepLoop(engine, inbox, post, turn).run()

        self.bridge = ThreadBridge(model.name, body, self._on_posts, nice=nice)
        self._streams = streams

    def start(self) -> None:
        for _ in range(self._streams):
            self._submit()

    def _submit(self) -> None:
        longest = self.limits.max_model_len
        prompt = self._rng.randrange(longest // 16, longest // 4)
        output = self._rng.randrange(longest // 16, longest // 4)
        ids = tuple(self._rng.randrange(self.limits.vocab_size) for _ in range(min(prompt, 256)))
        params = SamplingParams(max_tokens=min(output, 192), temperature=0, ignore_eos=True)
        self._sent[self._next] = perf_counter()
        self.bridge.send(Submit(sequence_id=self._next, prompt_token_ids=ids, params=params))
        self._next += 1

    def _on_posts(self, posts: list[Post]) -> None:
        now = perf_counter()
        for post in posts:
            match post:
                case Engine():
                    self.limits = post.limits
                    self.ready.set()
                case EngineFailed():
                    raise SystemExit(post.message)
                case StepReport():
                    for output in post.outputs:
                        self._on_output(output, now)

    def _on_output(self, output: SequenceOutput, now: float) -> None:
        previous = self._last_at.get(output.sequence_id)
        if self.noting:
            self.tokens += len(output.token_ids) if isinstance(output, TokenDelta) else 0
            if previous is not None:
                self.gaps.append(now - previous)
            elif output.sequence_id in self._sent:
                self.ttft.append(now - self._sent[output.sequence_id])
        self._last_at[output.sequence_id] = now
        if output.finish is not None:
            self._last_at.pop(output.sequence_id)
            self._sent.pop(output.sequence_id)
            if output.finish.reason != "abort":
                self._submit()


async def _lateness(notes: list[float]) -> None:
    while True:
        due = perf_counter() + _NAP_S
        await trio.sleep(_NAP_S)
        notes.append(perf_counter() - due)


async def _measure(plan: str, models: list[Path], streams: int, seconds: float, nice: int) -> list[Figures]:
    kind, threads = plan.split("-")
    turns = TimeSlices(1) if kind == "turns" else None
    clients = [Client(model, int(threads), streams, turns, nice) for model in models]
    for client in clients:
        await client.ready.wait()
    for client in clients:
        client.start()
    await trio.sleep(_WARM_S)
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_lateness, late)
        for client in clients:
            client.noting = True
        began = perf_counter()
        await trio.sleep(seconds)
        took = perf_counter() - began
        for client in clients:
            client.noting = False
        nursery.cancel_scope.cancel()
    for client in clients:
        client.bridge.send(Stop())
    for client in clients:
        await client.bridge.join(10)
    return [
        Figures(
            plan=plan,
            model=client.model.name,
            tokens_per_s=client.tokens / took,
            itl_ms=(_percentile(client.gaps, 0.5), _percentile(client.gaps, 0.99)),
            ttft_ms=(_percentile(client.ttft, 0.5), _percentile(client.ttft, 0.99)),
            lateness_ms=(_percentile(late, 0.5), _percentile(late, 0.99), 1e3 * max(late)),
        )
        for client in clients
    ]


def _percentile(seconds: list[float], share: float) -> float:
    ranked = sorted(seconds)
    return 1e3 * ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")


def table(figures: list[Figures]) -> str:
    rows = [
        "| plan | model | output tokens/s | ITL p50 / p99 ms | TTFT p50 / p99 ms | loop late p50 / p99 / worst ms |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for it in figures:
        late = " / ".join(f"{each:.2f}" for each in it.lateness_ms)
        rows.append(
            f"| {it.plan} | {it.model} | {it.tokens_per_s:,.0f} | {it.itl_ms[0]:.1f} / {it.itl_ms[1]:.1f} | "
            f"{it.ttft_ms[0]:.0f} / {it.ttft_ms[1]:.0f} | {late} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine.several")
    parser.add_argument("--pair", type=Path, nargs=2, default=[MODELS / "small", MODELS / "large"])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--plans", default="alone-1,free-1,turns-1,turns-2,free-2")
    parser.add_argument("--nice", type=int, default=NICE, help="of the engines' threads")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    prepare_environment()
    figures: list[Figures] = []
    for plan in options.plans.split(","):
        together = [[model] for model in options.pair] if plan.startswith("alone") else [options.pair]
        for models in together:
            figures += trio.run(partial(_measure, plan, models, options.streams, options.seconds, options.nice))
    print(msgspec.json.encode(figures).decode() if options.json else table(figures))


if __name__ == "__main__":
    main()
